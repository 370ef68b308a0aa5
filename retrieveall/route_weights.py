"""What the `linear` router has learned from the indexes of a release, in ``routers/`` (see learned.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from retrieveall.learned import Learned
from retrieveall.retrieval import LanguageIndex, corpus_parts, read_manifest
from retrieveall.routing import LinearWeights, learn_from_indexes
from retrieveall.workspace import Workspace

FORMAT_VERSION: Final = 1  # raised where files or learning change


def kept_weights(
    workspace: Workspace, digests: Mapping[str, str], indexes: Mapping[str, LanguageIndex]
) -> LinearWeights:
    """Returns what was learned from these indexes; learns and keeps it where it is not there.

    Args:
        workspace: Where it is kept.
        digests: Index digest by language.
        indexes: The same indexes, opened.

    Raises:
        NotFoundError: There is no index.
    """
    manifests = {code: read_manifest(workspace.indexes, code, digest) for code, digest in digests.items()}
    return Learned(
        kind="router",
        store=workspace.routers,
        key={"format_version": FORMAT_VERSION, "router": "linear", "indexes": corpus_parts(manifests)},
        pack=_pack,
        unpack=_unpack,
    ).read_or_learn(lambda: learn_from_indexes(indexes))


def _pack(weights: LinearWeights) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return {"rows": weights.rows_RL.half(), "seen": torch.from_numpy(weights.seen)}, {}


def _unpack(tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> LinearWeights:
    return LinearWeights(
        languages=tuple(sorted(manifest["indexes"])),
        rows_RL=tensors["rows"].float(),
        seen=tensors["seen"].numpy(),
    )
