"""Columns of JSONL: whatever the fields hold, they are read, stored, and mean the same."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.offline.columns import conform, infer_schema, storable, table_of, unify
from retrieveall.offline.options import TagOptions
from tests.offline import read_all, write

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
RECORDS = st.lists(
    st.dictionaries(st.sampled_from(["x", "y", "row"]), VALUES, max_size=3), min_size=1, max_size=5
)


@given(records=RECORDS, size=st.integers(1, 3))
def test_any_fields_are_read_and_stored(records: list[dict[str, Any]], size: int) -> None:
    lines = [json.dumps({"text": "t", **record}) for record in records]
    with tempfile.TemporaryDirectory() as name:
        parts = read_all(write(Path(name), a_jsonl="\n".join(lines)), TagOptions(rows_per_fragment=size))
    table = pa.concat_tables([rows.columns for rows in parts])
    stored = io.BytesIO()
    pq.write_table(table, stored)

    assert len(table) == len(records)
    assert all(problem is None for rows in parts for problem in rows.problems)
    assert pq.read_table(stored).num_rows == len(records)


@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_whole_numbers_stay_exact(values: list[int | None]) -> None:
    records = [{"x": value} for value in values]
    table = table_of(records, storable(infer_schema(records)))
    kept = table.column("x").to_pylist() if values else []
    assert kept == values


def test_numbers_become_floats_where_some_are() -> None:
    records: list[dict[str, Any]] = [{"x": 2**60, "y": [2**60]}, {"x": 0.5, "y": [0.5]}, {"x": None}]
    schema = unify(infer_schema(records[:1]), infer_schema(records[1:]))

    assert table_of(records, schema).to_pylist() == [
        {"x": float(2**60), "y": [float(2**60)]},
        {"x": 0.5, "y": [0.5]},
        {"x": None, "y": None},
    ]


def test_columns_that_a_table_lacks_are_null() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.list_(pa.string()))])
    assert conform(pa.table({"a": pa.array([1], pa.int8())}), schema).to_pylist() == [{"a": 1, "b": None}]


def test_deep_values_are_kept_as_json() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    schema = infer_schema([{"x": deep}])

    assert schema.field("x").type == pa.string()
    assert json.loads(table_of([{"x": deep}], schema).column("x")[0].as_py()) == deep


def test_json_in_strings_has_no_nan() -> None:
    records: list[dict[str, Any]] = [{"x": float("nan")}, {"x": [float("inf"), 1.5]}, {"x": "NaN"}]
    schema = infer_schema(records)

    assert schema.field("x").type == pa.string()
    assert table_of(records, schema).column("x").to_pylist() == [None, "[null, 1.5]", "NaN"]
