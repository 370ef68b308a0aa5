"""The rows of a tagged corpus, read back in the order of the input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from retrieveall.offline.fragments import Fragment
from retrieveall.offline.output import ROWS_FOLDER, read_about
from retrieveall.storage import Store

_BATCH_ROWS = 256
_READERS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputFile:
    """One file of ``rows/``.

    Attributes:
        text_column: What the column of texts is called in it.
    """

    path: str
    fragment: Fragment
    text_column: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRow:
    """One row of a tagged corpus.

    Attributes:
        columns: All its columns, as Python values.
        text: Its text; empty where it has an error.
    """

    columns: Mapping[str, Any]
    text: str

    @property
    def is_tagged(self) -> bool:
        """Whether the row has no error."""
        return bool(self.columns["status"] == "ok")

    @property
    def key(self) -> str:
        """File and row number: unique in the corpus."""
        return f"{self.columns['file']}:{self.columns['row']}"

    @property
    def entities(self) -> Sequence[Mapping[str, Any]]:
        """Entities in order of appearance."""
        return self.columns["entities"] or ()

    @property
    def edges(self) -> set[int]:
        """Characters at which entities start or end."""
        return {entity[key] for entity in self.entities for key in ("start_char", "end_char")}

    @property
    def sentences(self) -> Sequence[Mapping[str, Any]]:
        """Sentences in order."""
        return self.columns["sentences"] or ()


def output_files(output: Store) -> dict[str, list[OutputFile]]:
    """Returns the files of ``rows/`` by the input's file, in order of the rows."""
    paths = [f"{ROWS_FOLDER}/{name}" for name in output.list(ROWS_FOLDER)]
    by_file: dict[str, list[OutputFile]] = defaultdict(list)
    with ThreadPoolExecutor(_READERS) as pool:
        for path, about in zip(paths, pool.map(lambda path: read_about(output, path), paths), strict=True):
            fragment = Fragment.from_dict(about["fragment"], source=path)
            by_file[fragment.file].append(
                OutputFile(path=path, fragment=fragment, text_column=about["text_column"])
            )
    for parts in by_file.values():
        parts.sort(key=lambda part: part.fragment.first_row)
    return dict(sorted(by_file.items()))


def read_rows(output: Store, files: Sequence[OutputFile]) -> Iterator[ExportRow]:
    """Yields the rows of output files, a few hundred of them in memory at a time."""
    for file in files:
        with output.filesystem.open_input_file(output.full_path(file.path)) as source:
            for batch in pq.ParquetFile(source).iter_batches(batch_size=_BATCH_ROWS):
                for columns in batch.to_pylist():
                    yield ExportRow(columns=columns, text=columns[file.text_column] or "")
