"""A router's thresholds and document weight: fitted once on dev sentences, then read.

They are a function of the indexes and the router, so they are kept by the digest of both, in
``runs/routing-<digest>/settings.json``. Source: own choice; the papers leave open what an unknown
language is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from retrieveall.corpus.limits import limited
from retrieveall.digests import digest_json
from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.retrieval import IndexManifest, corpus_parts, read_manifest
from retrieveall.routing import RouteSettings, ScoringRouter, fit_document_weight, fit_thresholds
from retrieveall.workspace import Workspace

FIT_SENTENCES = 300  # of each language
_FILE = "settings.json"
_VERSION = 1  # raised where a router's scores change

log = logging.getLogger(__name__)


def with_fitted_settings(
    workspace: Workspace, indexes: Mapping[str, str], router: ScoringRouter, *, neighbours: int
) -> ScoringRouter:
    """Returns the router with the settings that dev sentences of its indexes' corpora give.

    Without dev sentences (a corpus that was removed or has no dev split) nothing is unknown and the
    document weight keeps its default.

    Args:
        workspace: Where corpora and indexes stand.
        indexes: Index digest by language.
        router: Over these languages.
        neighbours: k of the vote, which the values depend on.
    """
    manifests = {code: read_manifest(workspace.indexes, code, digest) for code, digest in indexes.items()}
    key = {
        "version": _VERSION,
        "router": router.scorer.name,
        "neighbours": neighbours,
        "indexes": corpus_parts(manifests),  # taught examples neither vote nor teach a router
        "sentences": FIT_SENTENCES,
    }
    folder = workspace.run(f"routing-{digest_json(key)}")
    if not folder.exists(_FILE):
        texts = _dev_texts(workspace, manifests)
        if not any(texts.values()):
            return router
        settings = _fit(router, texts)
        try:
            folder.write_json(_FILE, {**key, "settings": settings.to_dict()})
        except OSError as error:  # a workspace that may only be read; fitting again is cheap
            log.warning("The fitted routing settings could not be kept in %s: %s", folder.uri, error)
        return ScoringRouter(router.scorer, settings)
    return ScoringRouter(router.scorer, RouteSettings.from_dict(_settings_of(folder.read_json(_FILE))))


def _settings_of(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = kept["settings"]
    return settings


def _fit(router: ScoringRouter, texts: Mapping[str, list[str]]) -> RouteSettings:
    try:
        thresholds = fit_thresholds(router, [text for code in texts for text in texts[code]])
    except InputError:  # no sentence has a letter
        return router.settings
    return fit_document_weight(ScoringRouter(router.scorer, thresholds), texts)


def _dev_texts(workspace: Workspace, manifests: Mapping[str, IndexManifest]) -> dict[str, list[str]]:
    """Dev sentences of the corpora that the indexes were made of, as far as they still stand there."""
    texts: dict[str, list[str]] = {}
    for language, manifest in sorted(manifests.items()):
        try:
            corpus = workspace.corpora.manifest(manifest.corpus, language)
        except RetrieveAllError:
            continue
        if corpus.digest == manifest.corpus_digest and corpus.sentences.get("dev"):
            rows = workspace.corpora.load(manifest.corpus, language, "dev")
            texts[language] = [rows[i].text for i in limited(len(rows), FIT_SENTENCES)]
    return texts
