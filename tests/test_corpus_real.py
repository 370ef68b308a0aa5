"""Real corpora: every folder is read without error, and PAN-X's known duplicate rates come out."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from pyarrow import fs

from retrieveall.corpus import CorpusStore, ImportOptions, audit_splits, detokenise, import_corpus, read_conll
from retrieveall.text.mentions import first_inexpressible
from retrieveall.types import SPLITS, Sentence, Split
from tests.corpora import mentions, token_texts

DATA = os.environ.get("RETRIEVEALL_TEST_DATA")
NER = Path(DATA or "unset") / "ner"
FOLDERS = sorted(f"{path.parent.name}/{path.name}" for path in NER.glob("*/*") if path.is_dir())
SCRIPTS_WITHOUT_SPACES = {"thainer/th", "stockmark/ja", "klue/ko", "uner/zh-hans"}
IN_TRAIN = {"en": 2.8, "ru": 8.7, "de": 11.2, "fr": 12.7, "pt": 15.8, "es": 16.2}  # % of PAN-X test
LINES = 1500

pytestmark = pytest.mark.skipif(not FOLDERS, reason="set RETRIEVEALL_TEST_DATA to a folder with ner/")


def beginning(folder: str, target: Path) -> Path:
    """Copies the first sentences of each file, enough to be quick."""
    target.mkdir()
    for split in SPLITS:
        with (NER / folder / f"{split}.conll").open(encoding="utf-8") as lines:
            kept = list(islice(lines, LINES))
        while kept and kept[-1].strip():
            kept.pop()
        (target / f"{split}.conll").write_text("".join(kept), encoding="utf-8")
    return target


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_beginning_of_every_corpus_imports(folder: str, tmp_path: Path) -> None:
    language = folder.rpartition("/")[2]
    store = CorpusStore(fs.LocalFileSystem(), str(tmp_path / "corpora"))
    options = ImportOptions(label_map=NER / "type_map.json")
    source = str(beginning(folder, tmp_path / "source"))
    report = import_corpus(store, source, format="conll", language=language, name="real", options=options)
    assert set(report.sentences) == set(SPLITS) and not report.problems and not report.notes
    assert {"PER", "LOC"} <= set(report.entities) <= {"PER", "LOC", "ORG"}
    plain = store.load("real", language, "test")
    prose = store.load("real", language, "test", "detokenised")
    assert [token_texts(row) for row in prose] == [token_texts(row) for row in plain]
    spaces = sum(row.text.count(" ") for row in plain) / sum(len(row.tokens) for row in plain)
    assert (spaces < 0.05) if folder in SCRIPTS_WITHOUT_SPACES else (spaces > 0.7)


def check_panx(language: str) -> None:
    path = NER / "panx" / language
    wanted: tuple[Split, ...] = ("train", "test")
    splits = {
        split: list(read_conll(path / f"{split}.conll", language=language, split=split)) for split in wanted
    }
    audit = audit_splits(splits)["test"]
    assert 100 * audit.in_train == pytest.approx(IN_TRAIN[language], abs=0.05)
    assert audit.inside_units == 0 and audit.inexpressible < 0.0006
    check_prose(splits["test"][:2000])


def check_prose(rows: list[Sentence]) -> None:
    prose = [detokenise(row) for row in rows]
    assert [first_inexpressible(row.text, row.entities) is None for row in prose] == [
        first_inexpressible(row.text, row.entities) is None for row in rows
    ]
    joined = [["".join(text.split()) for text, _ in mentions(row)] for row in prose]
    assert joined == [["".join(text.split()) for text, _ in mentions(row)] for row in rows]


def test_panx_english_duplicates_and_expressible_mentions() -> None:
    check_panx("en")


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(set(IN_TRAIN) - {"en"}))
def test_panx_duplicates_and_expressible_mentions(language: str) -> None:
    check_panx(language)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_corpus_imports_whole(folder: str, tmp_path: Path) -> None:
    language = folder.rpartition("/")[2]
    store = CorpusStore(fs.LocalFileSystem(), str(tmp_path))
    report = import_corpus(store, str(NER / folder), format="conll", language=language, name="real")
    assert set(report.sentences) == set(SPLITS) and not report.problems and not report.notes
