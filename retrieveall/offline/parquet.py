"""Row ranges of Parquet files, read once from front to end although the ranges come one by one."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrieveall.storage import Store

_BATCH_ROWS = 1_024
_BUFFER_BYTES = 1 << 20
_KEPT_CURSORS = 4


class ParquetCursors:
    """Reads row ranges; one that begins behind where an earlier one ended goes on there.

    A row group may hold a million rows, and Parquet can only be read from the beginning of one. Safe to
    share between threads.

    Args:
        store: The input's folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._idle: list[_Cursor] = []
        self._lock = threading.Lock()

    def read(self, path: str, first_row: int, rows: int) -> pa.Table:
        """Returns rows ``first_row`` to before ``first_row + rows`` of a file.

        Raises:
            pa.ArrowException: The file is broken.
            OSError: The same, or it cannot be read.
        """
        cursor = self._take(path, first_row) or _Cursor(self._store, path, first_row)
        table = cursor.read(first_row, rows)
        with self._lock:
            self._idle.append(cursor)
            del self._idle[:-_KEPT_CURSORS]
        return table

    def _take(self, path: str, first_row: int) -> _Cursor | None:
        with self._lock:
            fitting = [one for one in self._idle if one.path == path and one.is_before(first_row)]
            best = max(fitting, key=lambda one: one.next_row, default=None)
            if best is not None:
                self._idle.remove(best)
            return best


class _Cursor:
    """A place in a Parquet file that only moves forward."""

    def __init__(self, store: Store, path: str, first_row: int) -> None:
        self.path = path
        source = store.filesystem.open_input_file(store.full_path(path))
        self._file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        footer = self._file.metadata
        sizes = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        self._group_starts = [0, *accumulate(sizes)][:-1]
        group = self._group_of(first_row)
        self.next_row = self._group_starts[group]
        self._batches = self._read(range(group, len(sizes)))
        self._left: pa.Table | None = None

    def is_before(self, row: int) -> bool:
        """Whether the row lies ahead, with no beginning of a row group in between."""
        return bool(self._group_starts[self._group_of(row)] <= self.next_row <= row)

    def read(self, first_row: int, rows: int) -> pa.Table:
        """Returns the rows and moves behind them."""
        self._move(first_row - self.next_row)
        return self._move(rows)

    def _move(self, rows: int) -> pa.Table:
        """Takes the next rows, as many as there are."""
        pieces = [self._left] if self._left is not None else []
        there = sum(map(len, pieces))
        while there < rows and (batch := next(self._batches, None)) is not None:
            pieces.append(pa.Table.from_batches([batch]))
            there += len(batch)
        table = pa.concat_tables(pieces) if pieces else self._file.schema_arrow.empty_table()
        self._left = table.slice(rows)
        self.next_row += min(rows, there)
        return table.slice(0, rows).replace_schema_metadata(None)

    def _read(self, groups: range) -> Iterator[Any]:
        """Yields batches, group by group, so that a broken one harms none before it."""
        for group in groups:
            yield from self._file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group])

    def _group_of(self, row: int) -> int:
        return bisect.bisect_right(self._group_starts, row) - 1


def repaired(table: pa.Table) -> tuple[pa.Table, dict[str, frozenset[int]]]:
    """Returns the table with U+FFFD for bytes of strings that are not UTF-8, and the rows that had some.

    Arrow reads such bytes without complaint. Strings inside of nested columns are left as they are.
    """
    broken: dict[str, frozenset[int]] = {}
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = table.column(place)
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                texts, broken[field.name] = _decoded(column.cast(pa.large_binary()).to_pylist())
                table = table.set_column(place, field, pa.array(texts, field.type))
    return table, broken


def _decoded(cells: list[bytes | None]) -> tuple[list[str | None], frozenset[int]]:
    texts = [None if cell is None else cell.decode("utf-8", "replace") for cell in cells]
    pairs = enumerate(zip(cells, texts, strict=True))
    return texts, frozenset(row for row, (cell, text) in pairs if text is not None and text.encode() != cell)
