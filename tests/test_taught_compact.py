"""Taught examples over the indexes of a release, and folded into them: the answers are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from retrieveall.errors import InputError
from retrieveall.lora.gc import collect_garbage
from retrieveall.opening import OpenOptions, open_retriever, read_release
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.retrieval import list_indexes, read_manifest
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.compact import TAUGHT_CORPUS, compact, folded_seqs
from retrieveall.taught.layers import SeenTaught, TaughtLayers
from retrieveall.taught.log import SHARED
from retrieveall.taught.view import TaughtView
from retrieveall.types import Examples
from retrieveall.workspace import Workspace
from tests.test_cli_commands import printed, run
from tests.test_taught_book import NOW, lesson
from tests.workspaces import random_workspace

TEXTS = [
    "Zorblax geht .",
    "Gestern ging Quimby nach Wien .",
    "Helga Brandt fliegt morgen nach Wien .",
    "Qimby und Zorblax",
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return random_workspace(tmp_path, ("de", "en"))


@pytest.fixture
def book(workspace: Workspace) -> TaughtBook:
    return TaughtBook(workspace.taught)


def teach(
    book: TaughtBook, namespace: str, *texts: str, label: str = "PER", language: str = "de"
) -> list[str]:
    sentences = lesson(*texts, label=label, language=language)
    return list(book.teach(namespace, sentences, created_at=NOW).statuses)


def opened(
    workspace: Workspace, release: int | None = None, last: ReleaseRetriever | None = None
) -> ReleaseRetriever:
    return open_retriever(workspace, read_release(workspace, OpenOptions(release=release)), last)


def found(retriever: ReleaseRetriever, namespace: str | None, workspace: Workspace) -> list[Examples]:
    if namespace is not None:
        layers = TaughtLayers(TaughtBook(workspace.taught))
        retriever = retriever.seeing(SeenTaught(layers=layers, view=TaughtView(namespace=namespace)))
    return retriever.retrieve_batch("de", TEXTS)


def surfaces(examples: list[Examples]) -> set[tuple[str, str]]:
    return {(e.mention, e.label) for one in examples for e in one.entity if e.taught}


def test_own_examples_lie_over_the_shared_and_nobody_elses_are_seen(
    workspace: Workspace, book: TaughtBook
) -> None:
    teach(book, SHARED, "Zorblax geht .", "Quimby singt .")
    teach(book, "me", "Zorblax sitzt .", label="LOC")
    retriever = opened(workspace)

    assert surfaces(found(retriever, "me", workspace)) == {("Zorblax", "LOC"), ("Quimby", "PER")}
    assert surfaces(found(retriever, "you", workspace)) == {("Zorblax", "PER"), ("Quimby", "PER")}
    assert surfaces(found(retriever, SHARED, workspace)) == {("Zorblax", "PER"), ("Quimby", "PER")}
    assert surfaces(found(retriever, None, workspace)) == set()
    assert retriever.retrieve_batch("en", TEXTS) == opened(workspace).retrieve_batch("en", TEXTS)


def test_folding_changes_no_answer_and_a_second_time_nothing(workspace: Workspace, book: TaughtBook) -> None:
    teach(book, SHARED, "Zorblax geht .", "Quimby singt .")
    teach(book, "me", "Zorblax sitzt .", label="LOC")
    before = opened(workspace)
    expected = {name: found(before, name, workspace) for name in ("me", "you")}
    done = compact(workspace, created_at=NOW)
    after = opened(workspace, last=before)
    german = workspace.releases.current().languages["de"]

    assert (done.release.number, done.release.languages["de"].adapter) == (2, german.adapter)
    assert [(one.language, one.examples, one.before == one.index) for one in done.languages] == [
        ("de", 2, False),
        ("en", 0, True),
    ]
    assert done.checkpoints == {"me": 1, SHARED: 1}
    for name, answers in expected.items():
        assert found(after, name, workspace) == answers
        assert found(opened(workspace, 1), name, workspace) == answers  # services still on the old release
    assert surfaces(found(after, None, workspace)) == {("Zorblax", "PER"), ("Quimby", "PER")}
    assert after.indexes["de"].context_shards is before.indexes["de"].context_shards
    assert compact(workspace, created_at=NOW).release.number == 2


def test_what_was_folded_speaks_in_the_prior_of_an_adapter_that_is_shown_no_examples(
    workspace: Workspace, book: TaughtBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVEALL_RETRIEVAL_PRIOR_WEIGHT", "1")
    pool, entry = workspace.pool, workspace.releases.current().languages["de"]
    card = replace(pool.get(entry.adapter).card, examples_in_training=False)
    workspace.releases.publish("de", pool.add(pool.path(entry.adapter), card), entry.index, created_at=NOW)
    teach(book, SHARED, "Zorblax geht .")
    compact(workspace, created_at=NOW)
    said = []
    for release in (2, None):
        retriever = opened(workspace, release)
        alone = retriever.retrieve_batch("de", TEXTS[:1])
        (one,) = retriever.with_priors(TEXTS[:1], [(("de", 1.0),)], alone)
        assert one.prior is not None and not one.entity and not one.context
        said.append(one.prior.tags)
    assert (said[0] != said[1]).any()


def test_what_was_folded_can_be_taught_again_deleted_and_rolled_back(
    workspace: Workspace, book: TaughtBook
) -> None:
    zorblax, quimby = teach(book, SHARED, "Zorblax geht .", "Quimby singt .")
    compact(workspace, created_at=NOW)
    teach(book, SHARED, "Zorblax geht .", label="LOC")
    book.forget(SHARED, [quimby], created_at=NOW)
    expected = found(opened(workspace), "me", workspace)

    assert surfaces(expected) == {("Zorblax", "LOC")}
    assert quimby not in {c.sentence_id for one in expected for c in one.context}
    again = compact(workspace, created_at=NOW)
    assert found(opened(workspace), "me", workspace) == expected
    assert again.languages[0].examples == 1
    workspace.releases.rollback(1, created_at=NOW)
    assert found(opened(workspace), "me", workspace) == expected
    book.forget(SHARED, [zorblax], created_at=NOW)
    compact(workspace, created_at=NOW)
    release = workspace.releases.current()
    assert surfaces(found(opened(workspace), "me", workspace)) == set()
    assert release.languages["de"].index == workspace.releases.load(1).languages["de"].index


def test_an_index_that_was_folded_keeps_its_parts_and_is_no_index_of_the_corpus(
    workspace: Workspace, book: TaughtBook
) -> None:
    teach(book, SHARED, "Zorblax geht .")
    base = workspace.releases.current().languages["de"].index
    done = compact(workspace, created_at=NOW).release.languages["de"].index
    assert base is not None and done is not None
    manifest = read_manifest(workspace.indexes, "de", done)
    collect_garbage(workspace, now_s=4e9, min_age_s=0, keep_releases=1)

    assert manifest.parts[0] == base and manifest.folded is not None
    assert folded_seqs(workspace.indexes, {"de": done}) == {"de": 1}
    assert [
        m.corpus for m in list_indexes(workspace.indexes, "de") if m.digest == manifest.folded.taught
    ] == [TAUGHT_CORPUS]
    assert done not in {index.digest for index in list_indexes(workspace.indexes)}
    assert surfaces(found(opened(workspace), "me", workspace)) == {("Zorblax", "PER")}


def test_examples_with_labels_that_the_adapter_has_not_are_left_out(
    workspace: Workspace, book: TaughtBook
) -> None:
    teach(book, "me", "Zorblax geht .", "Quimby singt .")
    index = opened(workspace).indexes["de"]
    layers = TaughtLayers(book)

    assert len(layers.stack("de", index, ("PER",), TaughtView(namespace="me"))) == 2
    assert len(layers.stack("de", index, ("LOC",), TaughtView(namespace="me"))) == 1


def test_the_command_folds_and_files_are_tagged_by_a_release_alone(
    workspace: Workspace, book: TaughtBook, tmp_path: Path
) -> None:
    teach(book, SHARED, "Zorblax geht .")
    folded = printed(Path(workspace.uri), "index", "compact")

    assert (folded["release"], folded["checkpoints"]) == (2, {SHARED: 1})
    assert [(one["language"], one["examples"]) for one in folded["languages"]] == [("de", 1), ("en", 0)]
    assert "release 2" in run(Path(workspace.uri), "index", "compact").stdout
    files = ("--input", str(tmp_path), "--output", str(tmp_path / "out"))
    with pytest.raises(InputError, match="--namespace"):
        run(Path(workspace.uri), "tag", *files, "--namespace", "me")
