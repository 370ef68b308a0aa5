"""The store keeps corpora whole, refuses to replace them by accident, and finds the one that is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from retrieveall.corpus.store import CorpusKey, CorpusStore, Provenance, check_corpus_name
from retrieveall.errors import ConflictError, IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.types import Sentence
from tests.corpora import sentence

ROWS = [
    sentence("In Paris , France .", (1, 2, "LOC"), (3, 4, "LOC"), id="train-0"),
    sentence("Bob sings .", (0, 1, "PER"), id="train-1"),
    sentence("Oslo ?", (0, 1, "LOC"), id="test-0", split="test"),
]


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    return CorpusStore(fs.LocalFileSystem(), str(tmp_path / "corpora"))


def translated(rows: list[Sentence], language: str) -> list[Sentence]:
    from dataclasses import replace

    return [replace(row, language=language) for row in rows]


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "corpora/news/en").iterdir()}


def test_what_is_imported_comes_back(store: CorpusStore, tmp_path: Path) -> None:
    manifest = store.import_sentences(ROWS, name="news", language="en", provenance=Provenance(source="here"))
    assert store.load("news", "en", "train") == ROWS[:2]
    prose = store.load("news", "en", "train", "detokenised")
    assert [row.text for row in prose] == ["In Paris, France.", "Bob sings."]
    assert store.load("news", "en", "dev") == []
    assert set(files(tmp_path)) == {"train.parquet", "test.parquet", "manifest.json"}
    assert manifest == store.manifest("news", "en") == store.list()[0]
    assert manifest.sentences == {"train": 2, "test": 1} and manifest.tokens == {"train": 8, "test": 2}
    assert manifest.entities == {"train": {"LOC": 2, "PER": 1}, "test": {"LOC": 1}}
    assert manifest.labels == ("LOC", "PER") and manifest.source == "here" and not manifest.synthetic


def test_the_same_content_again_changes_nothing(store: CorpusStore, tmp_path: Path) -> None:
    first = store.import_sentences(ROWS, name="news", language="en", provenance=Provenance(source="here"))
    before = files(tmp_path)
    again = store.import_sentences(ROWS, name="news", language="en", provenance=Provenance(source="there"))
    assert again == first and files(tmp_path) == before


def test_other_content_is_a_conflict_unless_forced(store: CorpusStore, tmp_path: Path) -> None:
    store.import_sentences(ROWS, name="news", language="en")
    with pytest.raises(ConflictError, match="--force"):
        store.import_sentences(ROWS[:2], name="news", language="en")
    assert len(store.load("news", "en", "test")) == 1
    store.import_sentences(ROWS[:2], name="news", language="en", force=True)
    assert store.load("news", "en", "test") == [] and "test.parquet" not in files(tmp_path)


def test_the_digest_is_of_the_content_alone(store: CorpusStore) -> None:
    first = store.import_sentences(ROWS, name="news", language="en")
    assert store.import_sentences(iter(ROWS), name="other", language="en").digest == first.digest
    assert store.import_sentences(ROWS, name="plain", language="en", detokenise=False).digest != first.digest
    assert store.load("plain", "en", "train", "detokenised") == ROWS[:2]


def test_without_its_manifest_a_corpus_does_not_exist(store: CorpusStore, tmp_path: Path) -> None:
    store.import_sentences(ROWS, name="news", language="en")
    (tmp_path / "corpora/news/en/manifest.json").unlink()
    assert store.list() == []
    with pytest.raises(NotFoundError, match="no corpus 'news' for 'en'"):
        store.load("news", "en", "train")
    store.import_sentences(ROWS[:2], name="news", language="en")
    assert store.load("news", "en", "train") == ROWS[:2]


def test_a_file_of_another_import_is_noticed_and_healed(store: CorpusStore, tmp_path: Path) -> None:
    store.import_sentences(ROWS, name="news", language="en")
    store.import_sentences(ROWS[:2], name="other", language="en")
    corpora = tmp_path / "corpora"
    (corpora / "other/en/train.parquet").replace(corpora / "news/en/train.parquet")
    with pytest.raises(IncompatibleArtefactError, match="interrupted"):
        store.load("news", "en", "train")
    store.import_sentences(ROWS, name="news", language="en")
    assert store.load("news", "en", "train") == ROWS[:2]


def test_a_write_that_fails_leaves_nothing_behind(
    store: CorpusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("retrieveall.corpus.store.pq.write_table", full_disk)
    with pytest.raises(OSError, match="disk full"):
        store.import_sentences(ROWS, name="news", language="en")
    assert files(tmp_path) == {} and store.list() == []


def test_another_format_version_is_refused_unless_forced(store: CorpusStore, tmp_path: Path) -> None:
    store.import_sentences(ROWS, name="news", language="en")
    manifest = tmp_path / "corpora/news/en/manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(IncompatibleArtefactError, match="99"):
        store.import_sentences(ROWS, name="news", language="en")
    store.import_sentences(ROWS, name="news", language="en", force=True)
    assert store.manifest("news", "en").format_version == 1


@pytest.mark.parametrize("content", ["", "[]", '{"format_version": 1, "labels": []}'])
def test_a_damaged_manifest_is_named_and_hinders_no_other_corpus(
    store: CorpusStore, tmp_path: Path, content: str
) -> None:
    store.import_sentences(ROWS, name="news", language="en")
    (tmp_path / "corpora/news/en/manifest.json").write_text(content)
    with pytest.raises(IncompatibleArtefactError, match=r"news/en/manifest\.json is damaged"):
        store.list()
    store.import_sentences(ROWS, name="wiki", language="en")
    with pytest.raises(NotFoundError, match="there is news/en, wiki/en"):
        store.manifest("gone", "en")


@pytest.mark.parametrize(
    ("rows", "name", "language", "message"),
    [
        ([], "news", "en", "No sentence"),
        ([ROWS[0], ROWS[0]], "news", "en", "Two sentences have the id"),
        (translated(ROWS, "de"), "news", "en", "'de'"),
        (translated(ROWS, "mul"), "news", "mul", "several languages"),
        (ROWS, "../news", "en", "cannot name a corpus"),
        (ROWS, "news", "../en", "language code"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    store: CorpusStore, tmp_path: Path, rows: list[Sentence], name: str, language: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        store.import_sentences(rows, name=name, language=language)
    assert list(tmp_path.rglob("*")) == []


@given(st.text(max_size=10))
def test_a_checked_name_is_one_safe_path_part(name: str) -> None:
    try:
        checked = check_corpus_name(name)
    except InputError:
        return
    assert not set(checked) & set("/\\.: \n\0") and checked == name == name.lower()


def test_a_split_that_is_none(store: CorpusStore) -> None:
    with pytest.raises(InputError, match="'validation' is not a split"):
        store.load("news", "en", "validation")  # type: ignore[arg-type]


def test_resolving(store: CorpusStore) -> None:
    with pytest.raises(NotFoundError, match="no corpus in"):
        store.resolve()
    store.import_sentences(ROWS, name="news", language="en")
    store.import_sentences(translated(ROWS, "de"), name="news", language="de")
    store.import_sentences(translated(ROWS, "fr"), name="wiki", language="fr")
    news, wiki = CorpusKey(name="news", language="de"), CorpusKey(name="wiki", language="fr")
    assert store.resolve() == (news, CorpusKey(name="news", language="en"), wiki)
    assert store.resolve(None, ["fr", "DE", "fr"]) == (wiki, news)
    assert [key.language for key in store.resolve("news")] == ["de", "en"]
    with pytest.raises(NotFoundError, match="named 'news' for 'fr'"):
        store.resolve("news", ["fr"])
    with pytest.raises(NotFoundError, match="no corpus 'gone'"):
        store.resolve("gone")


def test_a_language_with_two_corpora_must_be_told(store: CorpusStore) -> None:
    store.import_sentences(ROWS, name="news", language="en")
    store.import_sentences(ROWS, name="wiki", language="en")
    store.import_sentences(translated(ROWS, "de"), name="wiki", language="de")
    for languages in (None, ["en"]):
        with pytest.raises(InputError, match="more than one corpus: news, wiki"):
            store.resolve(None, languages)
    assert store.resolve(None, ["de"]) == (CorpusKey(name="wiki", language="de"),)
    assert store.resolve("news", ["en"]) == (CorpusKey(name="news", language="en"),)


def test_any_file_system_will_do(tmp_path: Path) -> None:
    store = CorpusStore(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "corpora/")
    store.import_sentences(ROWS, name="news", language="en")
    assert store.load("news", "en", "test") == ROWS[2:] and len(store.list()) == 1
