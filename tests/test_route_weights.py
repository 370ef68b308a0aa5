"""What a router learned is kept by its indexes, read again, and learned anew where it is broken."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import retrieveall.route_weights
from retrieveall.embedding import EmbedderSpec, NgramEmbedder
from retrieveall.lora.gc import GarbageReport, collect_garbage
from retrieveall.retrieval import IndexOptions, IndexRequest, Retriever, write_index
from retrieveall.route_weights import kept_weights
from retrieveall.routing import LinearWeights, learn_from_indexes
from retrieveall.workspace import Workspace
from tests.indexes import training
from tests.stores import add_adapter, workspace_of

TEXTS = {
    "en": ("the cat is on the mat", "this is the house of the king"),
    "es": ("el gato está en la casa", "la casa del rey es grande"),
    "nl": ("de kat zit op de mat", "dit is het huis van de koning"),
}
NOW = "2025-01-01T00:00:00+00:00"


@pytest.fixture(params=["local", "remote"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return workspace_of(request.param, tmp_path)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The languages of each time that something was learned."""
    times: list[tuple[str, ...]] = []

    def counted(indexes: dict[str, object]) -> LinearWeights:
        times.append(tuple(sorted(indexes)))
        return learn_from_indexes(indexes)  # type: ignore[arg-type]

    monkeypatch.setattr(retrieveall.route_weights, "learn_from_indexes", counted)
    monkeypatch.setattr("retrieveall.routing.learning.MOST_ROWS", 1 << 10)
    monkeypatch.setattr("retrieveall.routing.learning.MOST_SLOTS", 1 << 12)
    return times


def build(workspace: Workspace, *languages: str) -> dict[str, str]:
    embedder = NgramEmbedder()
    digests = {}
    for code in languages:
        request = IndexRequest(
            language=code,
            corpus="toy",
            corpus_digest="c" * 16,
            spec=EmbedderSpec(),
            embedder_digest=embedder.digest,
            options=IndexOptions(),
        )
        sentences = training(*TEXTS[code], language=code)
        digests[code] = write_index(workspace.indexes, request, sentences, embedder).digest
    return digests


def kept(workspace: Workspace, digests: dict[str, str]) -> LinearWeights:
    return kept_weights(workspace, digests, Retriever.open(workspace.indexes, digests).indexes)


def names(workspace: Workspace) -> list[str]:
    return [name for name in workspace.routers.list() if workspace.routers.is_folder(name)]


def test_it_is_learned_once_and_then_read(workspace: Workspace, learned: list[tuple[str, ...]]) -> None:
    digests = build(workspace, "en", "es")
    first, again = kept(workspace, digests), kept(workspace, digests)
    assert learned == [("en", "es")]
    assert again.languages == first.languages == ("en", "es")
    assert torch.equal(first.rows_RL, again.rows_RL) and (first.seen == again.seen).all()
    kept(workspace, {"es": digests["es"]})
    assert learned[1:] == [("es",)] and len(names(workspace)) == 2


@pytest.mark.parametrize("harm", ["cut", "changed", "gone", "manifest", "fields", "half"])
def test_what_is_broken_is_learned_again(
    workspace: Workspace, learned: list[tuple[str, ...]], harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    digests = build(workspace, "en", "es")
    first = kept(workspace, digests)
    (name,) = names(workspace)
    store, path = workspace.routers, f"{name}/weights.safetensors"
    data = store.read_bytes(path)
    if harm in ("cut", "changed"):
        store.write_bytes(path, data[:100] if harm == "cut" else data[:-1] + b"\x07")
    elif harm == "gone":
        store.remove(path)
    elif harm == "half":
        store.remove(f"{name}/manifest.json")  # written last
    else:
        store.write_text(f"{name}/manifest.json", "{" if harm == "manifest" else "[]")
    with caplog.at_level(logging.WARNING):
        again = kept(workspace, digests)
    assert (f"router {name}" in caplog.text and "learned again" in caplog.text) == (harm != "half")
    assert torch.equal(first.rows_RL, again.rows_RL) and len(learned) == 2
    assert store.read_bytes(path) == data
    kept(workspace, digests)
    assert len(learned) == 2


def test_a_workspace_that_cannot_be_written_still_has_a_router(
    workspace: Workspace,
    learned: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    digests = build(workspace, "en", "es")

    def refused(*given: object, **named: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("retrieveall.storage.Store.lock", refused)
    monkeypatch.setattr("retrieveall.learned.temporary_folder", refused)
    assert kept(workspace, digests).languages == ("en", "es")
    assert "could not be kept" in caplog.text and names(workspace) == []


def collect(workspace: Workspace) -> GarbageReport:
    return collect_garbage(workspace, now_s=4e9, min_age_s=3600, keep_releases=1)


def test_garbage_is_what_no_kept_release_needs(
    workspace: Workspace, learned: list[tuple[str, ...]], tmp_path: Path
) -> None:
    digests = build(workspace, *TEXTS)
    for seed, code in enumerate(TEXTS):
        adapter = add_adapter(workspace, tmp_path, seed=seed, language=code)
        workspace.releases.publish(code, adapter, digests[code], created_at=NOW)
    kept(workspace, digests)
    (needed,) = names(workspace)
    kept(workspace, {code: digests[code] for code in ("en", "es")})
    workspace.routers.write_text(f"{'0' * 16}/weights.safetensors", "half")
    report = collect(workspace)
    assert {garbage.kind for garbage in report.removed} == {"router"} and len(report.removed) == 2
    assert names(workspace) == [needed] and collect(workspace).removed == ()
    workspace.releases.remove("nl", created_at=NOW)
    assert f"routers/{needed}" in [garbage.path for garbage in collect(workspace).removed]
