"""Records of line formats (text, JSONL, CSV, TSV) with the bytes that they stand in.

Only the line feed ends a line; a carriage return before it is taken off. CSV is read by Python's own
reader, whose idea of quotes decides where a record ends: a quoted cell may hold line feeds, and an
open quote ends after `MAX_CELL_CHARS`.
Bytes that are not UTF-8 become surrogates (``surrogateescape``), which no text may hold, so that the
row's reader can tell; the rows around it are not touched.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retrieveall.errors import InputError
from retrieveall.offline.inputs import InputFormat

MAX_CELL_CHARS = 1 << 24
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row as it stands in the file.

    Attributes:
        raw: Its bytes, with the ends of its lines.
        end_byte: Where it ends in the file.
        cells: The cells of CSV; empty for the others.
        problem: Why it could not be taken apart, if it could not.
    """

    raw: bytes
    end_byte: int
    cells: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def start_byte(self) -> int:
        """Where it begins in the file."""
        return self.end_byte - len(self.raw)

    @property
    def line(self) -> str:
        """The line of text or JSONL, without its end."""
        return _decoded(self.raw.removesuffix(b"\n").removesuffix(b"\r"))


def mark_bytes(file: Any, path: str) -> int:
    """Returns how many bytes the byte order mark takes.

    Args:
        file: A binary file at its start.
        path: For the message.

    Raises:
        InputError: The file is UTF-16.
    """
    start = file.read(len(_UTF8_MARK))
    if start.startswith(_UTF16_MARKS):
        raise InputError(f"{path}: wrong encoding: the file is UTF-16. Save it as UTF-8.")
    return len(_UTF8_MARK) if start == _UTF8_MARK else 0


def read_records(file: Any, format: InputFormat, start_byte: int = 0) -> Iterator[Record]:
    """Yields the records of a file; blank lines of JSONL and CSV are none.

    Args:
        file: A binary file that can seek.
        format: Any line format.
        start_byte: Where a record begins.
    """
    file.seek(start_byte)
    stream = io.BufferedReader(file, _BUFFER_BYTES)
    try:
        if format in _DELIMITERS:
            yield from _cell_records(stream, _DELIMITERS[format], start_byte)
        else:
            yield from _line_records(stream, start_byte, skip_blank=format == "jsonl")
    finally:
        stream.detach()  # the file is the caller's to close


def _line_records(stream: io.BufferedReader, at: int, *, skip_blank: bool) -> Iterator[Record]:
    for raw in stream:
        at += len(raw)
        if not skip_blank or raw.strip():
            yield Record(raw=raw, end_byte=at)


def _cell_records(stream: io.BufferedReader, delimiter: str, at: int) -> Iterator[Record]:
    csv.field_size_limit(MAX_CELL_CHARS)
    taken: list[bytes] = []
    rows = csv.reader(_noted(stream, taken), delimiter=delimiter)
    while True:
        cells, problem = list[str](), None
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:  # the reader begins anew at the next line
            problem = f"no row of cells: {error}. Is a quote left open?"
        raw = b"".join(taken)
        taken.clear()
        at += len(raw)
        if cells or problem:
            yield Record(raw=raw, end_byte=at, cells=tuple(cells), problem=problem)


def _noted(stream: io.BufferedReader, taken: list[bytes]) -> Iterator[str]:
    for raw in stream:
        taken.append(raw)
        yield _decoded(raw)


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
