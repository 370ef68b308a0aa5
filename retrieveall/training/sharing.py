"""Which published languages may share what their priors learn. Source: own choice."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from retrieveall.errors import RetrieveAllError
from retrieveall.retrieval import read_manifest
from retrieveall.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedIndex:
    """An index with shards of its own, and the labels of its corpus; languages share that have the same."""

    digest: str
    labels: tuple[str, ...]


def published_indexes(workspace: Workspace, *, without: Collection[str] = ()) -> dict[str, SharedIndex]:
    """Returns by language what the current release's indexes were built from, as far as it is still there.

    Args:
        workspace: Where releases, indexes and corpora are.
        without: Languages that are passed over.
    """
    found = {}
    for code, entry in workspace.releases.current().languages.items():
        if code in without or entry.index is None:
            continue
        with contextlib.suppress(RetrieveAllError):  # what one language has lost is no fault of the others
            of = read_manifest(workspace.indexes, code, entry.index)
            manifest = workspace.corpora.manifest(of.corpus, code)
            if manifest.digest == of.corpus_digest:
                found[code] = SharedIndex(digest=of.parts[0], labels=manifest.labels)
    return found
