"""From a path to a corpus in the store, with a report of all that happened on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import fs

from retrieveall.corpus import CorpusStore, ImportOptions, import_corpus
from retrieveall.errors import ConflictError, CorpusFormatError, InputError, NotFoundError

TRAIN = "Paris\tB-GPE\n,\tO\nBob\tB-PERSON\n\nnow\tB-DATE\n"
TEST = "Oslo\tB-GPE\n.\tO\n"


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    return CorpusStore(fs.LocalFileSystem(), str(tmp_path / "corpora"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.conll").write_text(TRAIN)
    (folder / "validation.conll").write_text(TEST)
    (folder / "test.conll").write_text(TEST)
    (folder / "README.md").write_text("read me")
    return folder


def write_map(folder: Path) -> Path:
    path = folder / "map.json"
    path.write_text(json.dumps({"PER": ["PERSON"], "LOC": ["GPE", "LOC"], "note": "a remark"}))
    return path


def test_a_folder_with_a_label_map(store: CorpusStore, folder: Path, tmp_path: Path) -> None:
    options = ImportOptions(label_map=write_map(tmp_path))
    steps: list[int] = []
    report = import_corpus(
        store, str(folder), format="conll", language="en", name="news", options=options, progress=steps.append
    )
    assert report.sentences == {"train": 2, "dev": 1, "test": 1}
    assert report.entities == {"LOC": 3, "PER": 1} and report.unmapped == {"DATE": 1}
    assert steps[-1] == 4 and not report.unchanged
    manifest = store.manifest("news", "en")
    assert manifest.unmapped == {"DATE": 1} and manifest.label_map["GPE"] == "LOC"
    assert manifest.source == f"conll:{folder}" and manifest.digest == report.digest
    assert json.loads(json.dumps(report.to_dict()))["skipped"] == 0


def test_importing_twice_and_other_content(store: CorpusStore, folder: Path, tmp_path: Path) -> None:
    def run(options: ImportOptions | None = None) -> bool:
        return import_corpus(
            store, str(folder), format="conll", language="en", name="news", options=options
        ).unchanged

    assert [run(), run()] == [False, True]
    with pytest.raises(ConflictError):
        run(ImportOptions(label_map=write_map(tmp_path)))
    assert not run(ImportOptions(label_map=write_map(tmp_path), force=True))


def test_bad_sentences_stop_the_import_or_are_listed(store: CorpusStore, folder: Path) -> None:
    (folder / "test.conll").write_text(TEST + "\nBonn\n")
    with pytest.raises(CorpusFormatError, match=r"test\.conll:4: broken line"):
        import_corpus(store, str(folder), format="conll", language="en", name="news")
    assert store.list() == []
    options = ImportOptions(skip_bad=True)
    report = import_corpus(store, str(folder), format="conll", language="en", name="news", options=options)
    assert [problem.line for problem in report.problems] == [4] and report.to_dict()["skipped"] == 1
    assert store.manifest("news", "en").skipped == 1


def test_a_single_file_is_the_split_its_name_says_or_the_one_told(store: CorpusStore, folder: Path) -> None:
    def splits(path: Path, name: str, options: ImportOptions | None = None) -> list[str]:
        report = import_corpus(store, str(path), format="conll", language="en", name=name, options=options)
        return list(report.sentences)

    path = folder / "test.conll"
    assert splits(path, "a") == ["test"]
    assert splits(path, "b", ImportOptions(split="dev")) == ["dev"]
    assert splits(path.rename(folder / "nl.txt"), "c") == ["train"]


def test_jsonl_with_an_id_twice(store: CorpusStore, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": 1, "text": "a", "entities": []}\n' * 2)
    with pytest.raises(CorpusFormatError, match=r"x\.jsonl:2: duplicate id"):
        import_corpus(store, str(path), format="jsonl", language="en", name="news")
    options = ImportOptions(skip_bad=True)
    report = import_corpus(store, str(path), format="jsonl", language="en", name="news", options=options)
    assert [problem.kind for problem in report.problems] == ["duplicate id"]


def test_parquet_of_a_store_is_the_same_corpus(store: CorpusStore, folder: Path, tmp_path: Path) -> None:
    first = import_corpus(store, str(folder), format="conll", language="en", name="news")
    ours = tmp_path / "corpora/news/en"
    again = import_corpus(store, str(ours), format="parquet", language="en", name="copy")
    assert again.digest == first.digest


@pytest.mark.parametrize(
    ("source", "format", "error", "message"),
    [
        ("gone", "conll", NotFoundError, "does not exist"),
        ("source", "jsonl", InputError, "no train, dev or test file of the format jsonl"),
        ("source", "xml", InputError, "not a corpus format"),
        ("source", "sample", InputError, "one sample corpus: 'sample'"),
    ],
)
def test_sources_that_cannot_be_read(
    store: CorpusStore, folder: Path, source: str, format: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        import_corpus(store, str(folder.parent / source), format=format, language="en", name="news")  # type: ignore[arg-type]


def test_the_sample_corpus_is_marked_as_synthetic(store: CorpusStore) -> None:
    report = import_corpus(store, "sample", format="sample", language="sw", name="tour")
    assert report.sentences == {"train": 1000, "dev": 200, "test": 200}
    assert store.manifest("tour", "sw").synthetic
    with pytest.raises(NotFoundError, match="choose one of"):
        import_corpus(store, "sample", format="sample", language="xx", name="tour")


def test_two_files_for_one_split(store: CorpusStore, folder: Path) -> None:
    (folder / "dev.conll").write_text(TEST)
    with pytest.raises(InputError, match=r"several dev files: dev\.conll, validation\.conll"):
        import_corpus(store, str(folder), format="conll", language="en", name="news")


def test_a_split_cannot_be_told_for_a_folder(store: CorpusStore, folder: Path) -> None:
    options = ImportOptions(split="dev")
    with pytest.raises(InputError, match="is a folder"):
        import_corpus(store, str(folder), format="conll", language="en", name="news", options=options)
