"""Cuts one file into fragments and finds its columns: the first reading of an input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from retrieveall.digests import SHORT
from retrieveall.errors import InputError
from retrieveall.offline.columns import infer_schema, unify
from retrieveall.offline.fragments import FilePlan, Fragment, digest_stored_file, row_ranges
from retrieveall.offline.inputs import InputFile
from retrieveall.offline.lines import Record, mark_bytes, read_records
from retrieveall.offline.options import TagOptions
from retrieveall.offline.parsing import header_names, parse_record
from retrieveall.storage import Store


def plan_file(store: Store, file: InputFile, options: TagOptions) -> FilePlan:
    """Reads a file to its end and cuts it into fragments.

    Args:
        store: The input's folder.
        file: One of its files.
        options: Of the job.

    Raises:
        InputError: The file cannot be read as its format, or lacks a column that was asked for.
    """
    plan = (_plan_parquet if file.format == "parquet" else _plan_lines)(store, file, options)
    if plan.rows:
        _check_columns(plan, options)
    return plan


def _plan_parquet(store: Store, file: InputFile, options: TagOptions) -> FilePlan:
    try:
        with store.filesystem.open_input_file(store.full_path(file.path)) as source:
            parquet = pq.ParquetFile(source)
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow.remove_metadata()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{file.path} is not a readable Parquet file: {error}") from None
    digest = digest_stored_file(store, file.path)
    fragments = (
        Fragment(file=file.path, format="parquet", first_row=first, rows=count, digest=digest)
        for first, count in row_ranges(rows, options.rows_per_fragment)
    )
    return FilePlan(file=file.path, fragments=tuple(fragments), schema=schema)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lines:
    """A file of lines whose header was read."""

    file: InputFile
    header: tuple[str, ...]
    start_byte: int

    def schema(self, text_column: str) -> pa.Schema:
        """The columns that are known before any row is read."""
        names = (text_column,) if self.file.format == "text" else self.header
        return pa.schema([(name, pa.string()) for name in names])

    def fragment(self, records: list[Record], first_row: int) -> Fragment:
        return Fragment(
            file=self.file.path,
            format=self.file.format,
            first_row=first_row,
            rows=len(records),
            digest=digest_records(records),
            start_byte=records[0].start_byte,
            end_byte=records[-1].end_byte,
            header=self.header,
        )


def _plan_lines(store: Store, file: InputFile, options: TagOptions) -> FilePlan:
    with store.filesystem.open_input_file(store.full_path(file.path)) as source:
        start_byte = mark_bytes(source, file.path)
        header: tuple[str, ...] = ()
        if file.format in ("csv", "tsv"):
            first = next(read_records(source, file.format, start_byte), None)
            header = header_names(first.cells, file.path) if first else ()
            start_byte = first.end_byte if first else start_byte
        lines = _Lines(file=file, header=header, start_byte=start_byte)
        schema = lines.schema(options.text_column)
        fragments: list[Fragment] = []
        at = 0
        for records in _groups(read_records(source, file.format, start_byte), options.rows_per_fragment):
            fragments.append(lines.fragment(records, at))
            at += len(records)
            if file.format == "jsonl":
                schema = unify(schema, _schema_of(records, options.text_column))
    return FilePlan(file=file.path, fragments=tuple(fragments), schema=schema)


def digest_records(records: Iterable[Record]) -> str:
    """Returns the short digest of the bytes of records."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.raw)
    return digest.hexdigest()[:SHORT]


def _groups(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while group := list(islice(records, size)):
        yield group


def _schema_of(records: list[Record], text_column: str) -> pa.Schema:
    parsed = [parse_record(record, "jsonl", (), text_column).columns for record in records]
    return infer_schema([columns for columns in parsed if columns is not None])


def _check_columns(plan: FilePlan, options: TagOptions) -> None:
    for name in filter(None, (options.text_column, options.language_column)):
        if name not in plan.schema.names:
            there = ", ".join(plan.schema.names[:30]) or "none that could be read"
            flag = "--text-column" if name == options.text_column else "--language-column"
            raise InputError(
                f"{plan.file} has no column {name!r}; its columns are: {there}. Choose with {flag}."
            )
        kind = plan.schema.field(name).type
        if plan.fragments[0].format == "parquet" and not is_text(kind):
            raise InputError(f"The column {name!r} of {plan.file} holds {kind}; expected strings.")


def is_text(kind: pa.DataType) -> bool:
    """Whether a Parquet column holds strings, of any of Arrow's layouts."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
