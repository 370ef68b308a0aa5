"""JSONL files: one object a line with a text and its entities (fields: see spans.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from retrieveall.corpus.lines import read_lines
from retrieveall.corpus.report import ImportLog
from retrieveall.corpus.spans import RecordError, record_sentence
from retrieveall.languages import check_language
from retrieveall.types import Sentence, Split


def read_jsonl(
    path: Path | str, *, language: str, split: Split, log: ImportLog | None = None
) -> Iterator[Sentence]:
    """Yields the sentences of one file; ids are the records' own, or ``<split>-<number of the line>``.

    Args:
        path: A local file, UTF-8.
        language: BCP-47 code of all its sentences.
        split: Where records belong that name no split.
        log: Collects what was found; None raises at the first problem.

    Raises:
        CorpusFormatError: A record is broken; the message names file and line.
        InputError: The language is no code.
    """
    log = log if log is not None else ImportLog()
    language = check_language(language)
    for number, line in read_lines(Path(path), log):
        if line is None or not line.strip():
            continue
        try:
            sentence = record_sentence(
                _parse(line), id=f"{split}-{number}", language=language, split=split, note=log.note
            )
        except RecordError as error:
            log.problem(error.kind, str(path), number, error.message)
            continue
        if sentence is None:
            log.empty += 1
        elif log.claim_id(sentence.id, str(path), number):
            yield sentence


def _parse(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError("broken line", f"not JSON: {error}.") from error
