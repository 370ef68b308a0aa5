"""The second reading of an input: the rows of one fragment, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from retrieveall.offline.columns import conform, table_of
from retrieveall.offline.fragments import Fragment, changed, digest_stored_file
from retrieveall.offline.lines import read_records
from retrieveall.offline.options import TagOptions
from retrieveall.offline.parquet import ParquetCursors, repaired
from retrieveall.offline.parsing import parse_record
from retrieveall.offline.planning import digest_records
from retrieveall.storage import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRows:
    """N rows of an input.

    Attributes:
        columns: The input's columns, those of the whole input, N rows.
        texts: N texts; None where there is a problem.
        languages: N languages that the rows name; None where they name none.
        problems: Why a row cannot be tagged; None where it can.
    """

    columns: pa.Table
    texts: Sequence[str | None]
    languages: Sequence[str | None]
    problems: Sequence[str | None]


class FragmentReader:
    """Reads fragments of one input; safe to share between threads.

    Args:
        store: The input's folder.
        schema: Columns of the whole input.
        options: Of the job.
    """

    def __init__(self, store: Store, schema: pa.Schema, options: TagOptions) -> None:
        self._store, self._schema, self._options = store, schema, options
        self._cursors = ParquetCursors(store)

    def read(self, fragment: Fragment) -> InputRows:
        """Returns the rows of a fragment; broken ones have a problem and as many columns as could be read.

        Raises:
            InputError: The file changed since it was planned.
            OSError: The file cannot be read.
        """
        if fragment.format == "parquet":
            return self._parquet(fragment)
        return self._lines(fragment)

    def _lines(self, fragment: Fragment) -> InputRows:
        text_column = self._options.text_column
        with self._store.filesystem.open_input_file(self._store.full_path(fragment.file)) as source:
            records = list(islice(read_records(source, fragment.format, fragment.start_byte), fragment.rows))
        if digest_records(records) != fragment.digest:
            raise changed(fragment)
        parsed = [parse_record(record, fragment.format, fragment.header, text_column) for record in records]
        columns = table_of([row.columns for row in parsed], self._schema)
        return self._rows(columns, [row.problem for row in parsed])

    def _parquet(self, fragment: Fragment) -> InputRows:
        try:
            table = self._cursors.read(fragment.file, fragment.first_row, fragment.rows)
            table, broken = repaired(table)
            columns = conform(table, self._schema)
        except (pa.ArrowException, OSError) as error:
            if digest_stored_file(self._store, fragment.file) != fragment.digest:
                raise changed(fragment) from None
            # every byte could be read and is what was planned: the file itself is broken here
            blank = table_of([None] * fragment.rows, self._schema)
            return self._rows(blank, [f"the Parquet file is broken here: {error}"] * fragment.rows)
        if len(columns) != fragment.rows:
            raise changed(fragment)
        not_utf8 = broken.get(self._options.text_column, frozenset())
        texts = columns.column(self._options.text_column).to_pylist()
        return self._rows(columns, [self._text_problem(t, i in not_utf8) for i, t in enumerate(texts)])

    def _text_problem(self, text: str | None, not_utf8: bool) -> str | None:
        if text is None:
            return f"the column {self._options.text_column!r} is null"
        return "the text is not UTF-8" if not_utf8 else None

    def _rows(self, columns: pa.Table, problems: list[str | None]) -> InputRows:
        texts = columns.column(self._options.text_column).to_pylist()
        languages, language_problems = self._languages(columns)
        problems = [one or other for one, other in zip(problems, language_problems, strict=True)]
        kept = [None if problem else text for text, problem in zip(texts, problems, strict=True)]
        return InputRows(columns=columns, texts=kept, languages=languages, problems=problems)

    def _languages(self, columns: pa.Table) -> tuple[list[str | None], list[str | None]]:
        """Returns the language that each row names, and what is wrong with it."""
        name = self._options.language_column
        if name is None:
            return [self._options.language] * len(columns), [None] * len(columns)
        values = columns.column(name).to_pylist()
        problems = [
            None if value is None or isinstance(value, str) else f"the column {name!r} holds no string"
            for value in values
        ]
        return [value if isinstance(value, str) else None for value in values], problems
