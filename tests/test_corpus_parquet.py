"""Parquet rows are checked as JSONL records are, and our own files come back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieveall.corpus.parquet import read_parquet
from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.table import to_table
from retrieveall.errors import CorpusFormatError
from tests.corpora import mentions, sentence


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "train.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_our_own_rows_come_back(tmp_path: Path) -> None:
    rows = [sentence("Bonn , Oslo", (0, 1, "LOC"), (2, 3, "LOC")), sentence("none", id="b", split="dev")]
    pq.write_table(to_table(rows, rows), tmp_path / "train.parquet")
    assert list(read_parquet(tmp_path / "train.parquet", language="en", split="train")) == rows


def test_other_peoples_rows_need_only_text_and_entities(tmp_path: Path) -> None:
    path = write(tmp_path, [{"text": "In Oslo.", "entities": [{"start": 3, "end": 7, "label": "LOC"}]}])
    (found,) = read_parquet(path, language="en", split="test", shard=2)
    assert (found.id, mentions(found)) == ("test-2-1", [("Oslo", "LOC")])


def test_broken_rows_are_named_or_listed(tmp_path: Path) -> None:
    good = {"text": "Oslo", "entities": [{"start": 0, "end": 4, "label": "LOC"}]}
    bad = {"text": "Oslo", "entities": [{"start": 0, "end": 5, "label": "LOC"}]}
    path = write(tmp_path, [good, bad, {"text": "", "entities": []}])
    with pytest.raises(CorpusFormatError, match=r"train\.parquet:2: bad span"):
        list(read_parquet(path, language="en", split="train"))
    log = ImportLog(skip_bad=True)
    assert len(list(read_parquet(path, language="en", split="train", log=log))) == 1
    assert (len(log.problems), log.empty) == (1, 1)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_text("Paris\tB-LOC\n")
    with pytest.raises(CorpusFormatError, match="not a readable Parquet file"):
        list(read_parquet(path, language="en", split="train"))
