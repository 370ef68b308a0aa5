"""Parquet files of corpus rows (fields: see spans.py), such as ours or other people's.

``text`` and ``entities`` must be there; every row is checked as a JSONL record would be, and
errors name the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.spans import RecordError, record_sentence
from retrieveall.errors import CorpusFormatError
from retrieveall.languages import check_language
from retrieveall.types import Sentence, Split

_BATCH_ROWS = 4096


def read_parquet(
    path: Path | str, *, language: str, split: Split, shard: int | None = None, log: ImportLog | None = None
) -> Iterator[Sentence]:
    """Yields the sentences of one file; ids are the rows' own, or ``<split>-<number of the row>``.

    Args:
        path: A local file.
        language: BCP-47 code of all its sentences.
        split: Where rows belong that name no split.
        shard: Number of the file where a split has several; it goes into the ids.
        log: Collects what was found; None raises at the first problem.

    Raises:
        CorpusFormatError: The file is no Parquet or a row is broken; the message names file and row.
        InputError: The language is no code.
    """
    log = log if log is not None else ImportLog()
    language = check_language(language)
    stem = split if shard is None else f"{split}-{shard}"
    for number, record in enumerate(_records(Path(path)), start=1):
        try:
            sentence = record_sentence(
                record, id=f"{stem}-{number}", language=language, split=split, note=log.note
            )
        except RecordError as error:
            log.problem(error.kind, str(path), number, error.message)
            continue
        if sentence is None:
            log.empty += 1
        elif log.claim_id(sentence.id, str(path), number):
            yield sentence


def _records(path: Path) -> Iterator[object]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeDecodeError) as error:
        raise CorpusFormatError(f"{path}:1: broken line: not a readable Parquet file: {error}.") from error
