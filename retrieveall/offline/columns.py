"""Columns of an input: their types, found by reading, and the tables that rows of any kind become.

Lines have no types of their own. Cells of CSV stay strings, so that ``007`` stays ``007``. Fields of
JSONL take the Arrow type that fits all their values (floats where some are); where none does, and where
Parquet could not keep it, a column holds strings: a string as it is, anything else as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from retrieveall.errors import InputError
from retrieveall.offline.json_lines import finite, json_text

_MAX_DEPTH = 16  # of a nested type; deeper values are kept as JSON
_NO_TYPE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError)

Json = Mapping[str, Any]


def infer_schema(records: Sequence[Json]) -> pa.Schema:
    """Returns the columns of JSON objects, in order of appearance; null where all values are."""
    names = dict.fromkeys(name for record in records for name in record)
    return pa.schema([(name, _inferred([record.get(name) for record in records])) for name in names])


def _inferred(values: Sequence[Any]) -> pa.DataType:
    try:
        found = pa.array(values).type
    except _NO_TYPE:
        return pa.string()
    return found if _is_storable(found) else pa.string()


def _is_storable(kind: pa.DataType, depth: int = 0) -> bool:
    """Whether Parquet can hold the type: no struct without fields, no type of bottomless depth."""
    if depth > _MAX_DEPTH:
        return False
    children = [kind.field(place).type for place in range(kind.num_fields)]
    return not (pa.types.is_struct(kind) and not children) and all(
        _is_storable(child, depth + 1) for child in children
    )


def unify(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """Returns the columns of both JSONL or CSV inputs, the first's first; strings where types differ."""
    fields = {field.name: field.type for field in first}
    for field in second:
        known = fields.get(field.name, pa.null())
        fields[field.name] = _common(known, field.type) or pa.string()
    return pa.schema(list(fields.items()))


def unify_strictly(schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    """Returns the columns of Parquet files (or of files of several formats).

    Args:
        schemas: By file.

    Raises:
        InputError: A column has types in two files that no type can hold.
    """
    fields: dict[str, pa.DataType] = {}
    origin: dict[str, str] = {}
    for file, schema in schemas.items():
        for field in schema:
            common = _common(fields.get(field.name, pa.null()), field.type)
            if common is None:
                raise InputError(
                    f"The column {field.name!r} is {fields[field.name]} in {origin[field.name]} and"
                    f" {field.type} in {file}. Tag the two apart, or give the column one type."
                )
            fields[field.name] = common
            origin.setdefault(field.name, file)
    return pa.schema(list(fields.items()))


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if first.equals(second):
        return first
    pair = [pa.schema([("column", kind)]) for kind in (first, second)]
    try:
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def storable(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with strings where it knows of null values only, at any depth."""
    return pa.schema([(field.name, pa.string() if _has_null(field.type) else field.type) for field in schema])


def _has_null(kind: pa.DataType) -> bool:
    children = (kind.field(place).type for place in range(kind.num_fields))
    return bool(pa.types.is_null(kind)) or any(map(_has_null, children))


def table_of(records: Sequence[Json | None], schema: pa.Schema) -> pa.Table:
    """Returns one row per record, all null for None; fields that the schema has not are left away."""
    columns = []
    for field in schema:
        values = [None if record is None else record.get(field.name) for record in records]
        columns.append(_array(values, field.type))
    return _table(columns, schema, len(records))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [_as_string(value) for value in values]
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:  # whole numbers that no float tells exactly, in a column of floats
        return pa.array([_with_floats(value, kind) for value in values], kind)


def _with_floats(value: Any, kind: pa.DataType) -> Any:
    """Returns a JSON value with floats wherever its type has them."""
    if pa.types.is_floating(kind) and value is not None:
        return float(value)
    if pa.types.is_list(kind) and value is not None:
        return [_with_floats(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind) and value is not None:
        fields = (kind.field(place) for place in range(kind.num_fields))
        return {field.name: _with_floats(value.get(field.name), field.type) for field in fields}
    return value


def _as_string(value: Any) -> str | None:
    plain = finite(value)  # a lone NaN is a missing value, not the word "null"
    return plain if isinstance(plain, str | None) else json_text(plain)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the table with exactly the schema's columns: cast, and null where it has none."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            column = table.column(field.name)
            columns.append(column if column.type.equals(field.type) else column.cast(field.type, safe=False))
        else:
            columns.append(pa.nulls(len(table), field.type))
    return _table(columns, schema, len(table))


def _table(columns: list[Any], schema: pa.Schema, rows: int) -> pa.Table:
    if not columns:  # Arrow cannot tell the number of rows without a column
        return pa.table({"": pa.nulls(rows)}).select([])
    return pa.table(columns, schema=schema)
