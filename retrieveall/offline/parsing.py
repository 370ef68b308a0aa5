"""From a record of a line format to its columns: one function for the first and the second reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retrieveall.errors import InputError
from retrieveall.offline.inputs import InputFormat
from retrieveall.offline.json_lines import parse_object, without_surrogates
from retrieveall.offline.lines import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """One row of lines.

    Attributes:
        columns: What can be passed on; None where nothing could be read.
        problem: Why the row cannot be tagged, if it cannot.
    """

    columns: Mapping[str, Any] | None
    problem: str | None = None


def parse_record(record: Record, format: InputFormat, header: tuple[str, ...], text_column: str) -> Parsed:
    """Returns the columns of a record.

    Args:
        record: From `read_records`.
        format: Its file's.
        header: Column names of CSV.
        text_column: What a line of text is called.
    """
    problem = record.problem or _encoding_problem(record.raw)
    match format:
        case "text":
            columns: Mapping[str, Any] = {text_column: record.line}
        case "jsonl":
            try:
                columns = parse_object(record.line)
            except InputError as error:
                return Parsed(columns=None, problem=problem or str(error))
        case _:
            problem = problem or _width_problem(record.cells, header)
            columns = dict(zip(header, record.cells, strict=False))
    return Parsed(columns=without_surrogates(columns), problem=problem or _text_problem(columns, text_column))


def header_names(cells: tuple[str, ...], path: str) -> tuple[str, ...]:
    """Returns the column names of a CSV file; an empty cell is called by its place, ``column_1`` first.

    Raises:
        InputError: Two columns have one name.
    """
    names = [without_surrogates(cell) or f"column_{place}" for place, cell in enumerate(cells, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} has two columns {', '.join(map(repr, twice))}. Rename one of each.")
    return tuple(names)


def _encoding_problem(raw: bytes) -> str | None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} of the row, {raw[error.start]:#04x}, is not UTF-8"
    return None


def _width_problem(cells: tuple[str, ...], header: tuple[str, ...]) -> str | None:
    if len(cells) == len(header):
        return None
    return f"{len(cells)} cells, the header has {len(header)}"


def _text_problem(columns: Mapping[str, Any], text_column: str) -> str | None:
    text = columns.get(text_column)
    if isinstance(text, str):
        return surrogate_problem(text)
    if text is None:
        return f"the column {text_column!r} is null"
    return f"the column {text_column!r} holds {type(text).__name__}, expected a string"


def surrogate_problem(text: str) -> str | None:
    """Returns what is wrong with a text that UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"character {error.start} of the text is a lone surrogate (U+{ord(text[error.start]):04X})"
    return None
