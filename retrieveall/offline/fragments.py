"""Fragments: row ranges of input files, the units of work. The same input is always cut the same way.

A fragment carries a digest of the bytes that it was cut from, so that a file that changed is never
taken for the one that was tagged. Lines are hashed fragment by fragment, so a file may grow at its end;
Parquet files are hashed whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from retrieveall.digests import SHORT
from retrieveall.errors import InputError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.offline.inputs import InputFormat
from retrieveall.storage import Store

ROWS_PER_FRAGMENT = 1_000
_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Fragment:
    """Rows ``first_row`` to before ``first_row + rows`` of one file.

    Attributes:
        file: Path relative to the input's folder.
        first_row: Counted from 0; blank lines of JSONL and CSV, and a CSV's header, are no rows.
        digest: SHA-256, short, of the fragment's bytes; of the whole file for Parquet.
        start_byte: Where the rows begin; lines only.
        end_byte: Where they end; lines only.
        header: Column names of a CSV file.
    """

    file: str
    format: InputFormat
    first_row: int
    rows: int
    digest: str
    start_byte: int = 0
    end_byte: int = 0
    header: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """File and rows, for messages."""
        return f"{self.file}, rows {self.first_row} to {self.first_row + self.rows - 1}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fragment as JSON values."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "a fragment") -> Fragment:
        """Reads what `to_dict` wrote.

        Raises:
            InputError: It is no fragment.
        """
        return from_dict(cls, values, source=source, error=InputError)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePlan:
    """How one file is cut.

    Attributes:
        schema: Its columns; those of JSONL are found by reading all of it.
    """

    file: str
    fragments: tuple[Fragment, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(fragment.rows for fragment in self.fragments)


def row_ranges(rows: int, rows_per_fragment: int) -> Iterator[tuple[int, int]]:
    """Yields ``(first_row, rows)`` of the fragments of a file with so many rows."""
    for first_row in range(0, rows, rows_per_fragment):
        yield first_row, min(rows_per_fragment, rows - first_row)


def digest_stored_file(store: Store, path: str) -> str:
    """Returns the short digest of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with store.filesystem.open_input_file(store.full_path(path)) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[:SHORT]


def changed(fragment: Fragment) -> InputError:
    """Returns the error for a file that is not what was planned any more."""
    return InputError(
        f"{fragment.place}: the file changed while it was being tagged. Start the job again when nobody"
        " writes to the input any more."
    )
