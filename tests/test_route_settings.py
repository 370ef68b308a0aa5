"""Thresholds are fitted on dev sentences once, kept by digest, and tell a language that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.embedding import NgramEmbedder
from retrieveall.embedding.spec import EmbedderSpec
from retrieveall.retrieval import IndexOptions, IndexRequest, Retriever, write_index
from retrieveall.route_settings import with_fitted_settings
from retrieveall.routing import RouteSettings, ScoringRouter, open_router
from retrieveall.types import Split
from retrieveall.workspace import Workspace

SIZES: dict[Split, int] = {"train": 150, "dev": 60, "test": 0}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace", create=True)


def build(workspace: Workspace, language: str) -> str:
    """Imports the sample corpus of a language and indexes it; returns the index's digest."""
    embedder = NgramEmbedder()
    rows = sample_corpus(language, sizes=SIZES)
    manifest = workspace.corpora.import_sentences(rows, name="sample", language=language)
    request = IndexRequest(
        language=language,
        corpus="sample",
        corpus_digest=manifest.digest,
        spec=EmbedderSpec(),
        embedder_digest=embedder.digest,
        options=IndexOptions(),
    )
    train = [row for row in rows if row.split == "train"]
    return write_index(workspace.indexes, request, train, embedder).digest


def opened(workspace: Workspace, indexes: dict[str, str]) -> ScoringRouter:
    retriever = Retriever.open(workspace.indexes, indexes)
    return with_fitted_settings(workspace, indexes, open_router("vote", retriever.indexes), neighbours=20)


def known_share(router: ScoringRouter, language: str) -> float:
    texts = [row.text for row in sample_corpus(language, sizes=SIZES) if row.split == "dev"]
    routes = router.route(texts).routes
    return sum(route.known for route in routes) / len(routes)


def test_the_pools_own_sentences_are_known_and_a_masked_language_is_not(workspace: Workspace) -> None:
    router = opened(workspace, {code: build(workspace, code) for code in ("de", "en")})
    assert router.settings.min_similarity > 0
    assert min(known_share(router, "de"), known_share(router, "en")) >= 0.97
    assert known_share(router, "ru") < 0.2


def test_settings_are_fitted_once_and_then_read(workspace: Workspace) -> None:
    indexes = {code: build(workspace, code) for code in ("de", "en")}
    first = opened(workspace, indexes).settings
    (name,) = workspace.runs.list()
    path = f"{name}/settings.json"
    kept = workspace.runs.read_json(path)
    assert RouteSettings.from_dict(kept["settings"]) == first
    workspace.runs.write_json(path, {**kept, "settings": {**kept["settings"], "min_margin": 0.25}})
    assert opened(workspace, indexes).settings.min_margin == 0.25
    assert (
        opened(workspace, {"de": indexes["de"]}).settings.min_margin != 0.25
    )  # other indexes, other settings


def test_without_dev_sentences_nothing_is_unknown(workspace: Workspace) -> None:
    indexes = {"de": build(workspace, "de")}
    workspace.store.remove("corpora/sample/de")
    router = opened(workspace, indexes)
    assert router.settings == RouteSettings()
    assert workspace.runs.list() == ()


def test_a_language_without_an_index_still_gets_its_sentences(workspace: Workspace) -> None:
    retriever = Retriever.open(workspace.indexes, {"en": build(workspace, "en")})
    router = open_router("vote", retriever.indexes, languages=("en", "ru"))
    routes = router.route(["Где живёт Анна?", "Where does Anna live?"]).routes
    assert [route.language for route in routes] == ["ru", "en"]
