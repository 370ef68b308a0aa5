"""What the `linear` router has learned: learned once for the indexes of a release, then read.

The weights are a function of the indexes' training sentences (taught examples are not among them), so they
are kept by the digest of both, in ``routers/<digest>/``: ``weights.safetensors`` and, written last,
``manifest.json``. Where they are missing or broken they are learned again; one process of a machine does it,
the others wait. `retrieveall gc` removes those of indexes that no kept release names together.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from retrieveall.digests import digest_json
from retrieveall.errors import BrokenArtefactError, InputError, NotFoundError
from retrieveall.folders import publish_folder, temporary_folder
from retrieveall.lora.gc import ROUTER_MARKER
from retrieveall.retrieval import LanguageIndex, corpus_parts, read_manifest
from retrieveall.routing import LinearWeights, learn_from_indexes
from retrieveall.storage import Store, json_bytes
from retrieveall.workspace import Workspace

FORMAT_VERSION: Final = 1  # raised where files or learning change
_WEIGHTS: Final = "weights.safetensors"
_LOCK: Final = ".lock"

log = logging.getLogger(__name__)


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
    key = {"format_version": FORMAT_VERSION, "router": "linear", "indexes": corpus_parts(manifests)}
    store, name = workspace.routers, digest_json(key)
    found = _kept(store, name)
    if found is not None:
        return found
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a workspace that may only be read
            held.enter_context(store.lock(_LOCK))
        found = _kept(store, name)
        if found is None:
            found = learn_from_indexes(indexes)
            _keep(store, name, found, key)
        return found


def _kept(store: Store, name: str) -> LinearWeights | None:
    """Reads what was kept; None where nothing was, or where it is broken."""
    if not store.exists(f"{name}/{ROUTER_MARKER}"):
        return None
    try:
        return _read(store, name)
    except BrokenArtefactError as error:
        log.warning("%s It is learned again.", error)
        with contextlib.suppress(OSError):
            store.remove(name, marker=ROUTER_MARKER)
        return None


def _read(store: Store, name: str) -> LinearWeights:
    """Reads weights.

    Raises:
        BrokenArtefactError: They are not what was written.
    """
    try:
        manifest, data = store.read_json(f"{name}/{ROUTER_MARKER}"), store.read_bytes(f"{name}/{_WEIGHTS}")
        if hashlib.sha256(data).hexdigest() != manifest["weights_sha256"]:
            raise InputError(f"{_WEIGHTS} was changed after it was written.")
        tensors = load(data)
        languages = tuple(sorted(manifest["indexes"]))
        return LinearWeights(
            languages=languages, rows_RL=tensors["rows"].float(), seen=tensors["seen"].numpy()
        )
    except (InputError, NotFoundError, SafetensorError, KeyError, TypeError) as error:
        raise BrokenArtefactError(f"The router {name} in {store.uri!r} is broken: {error}") from None


def _keep(store: Store, name: str, weights: LinearWeights, key: Mapping[str, Any]) -> None:
    data = save({"rows": weights.rows_RL.half(), "seen": torch.from_numpy(weights.seen)})
    manifest = {**key, "weights_sha256": hashlib.sha256(data).hexdigest()}
    try:
        with temporary_folder(store) as folder:
            (folder / _WEIGHTS).write_bytes(data)
            (folder / ROUTER_MARKER).write_bytes(json_bytes(manifest))
            publish_folder(store, folder, name, marker=ROUTER_MARKER)
    except OSError as error:  # a workspace that may only be read
        log.warning("What the router learned could not be kept in %s: %s", store.uri, error)
