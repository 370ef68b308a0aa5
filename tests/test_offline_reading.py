"""Fragments of every format, read twice: once to be cut, once to be tagged."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.offline.options import TagOptions
from tests.offline import fragments_of, plans_of, read_all, write

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=8)


def texts(inputs: Any, **options: Any) -> list[str | None]:
    return [text for rows in read_all(inputs, TagOptions(**options)) for text in rows.texts]


def problems(inputs: Any, **options: Any) -> list[str | None]:
    return [problem for rows in read_all(inputs, TagOptions(**options)) for problem in rows.problems]


def columns(inputs: Any, **options: Any) -> list[dict[str, Any]]:
    return [row for rows in read_all(inputs, TagOptions(**options)) for row in rows.columns.to_pylist()]


def as_csv(rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["text", "jsonl", "csv", "tsv", "parquet"])
@given(wanted=st.lists(ANY_TEXT, min_size=1, max_size=7), size=st.integers(1, 4))
def test_fragments_hold_every_row_once_in_order(format: str, wanted: list[str], size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if format == "text":
            inputs = write(folder, a_txt="".join(f"{text}\n" for text in wanted))
        elif format == "jsonl":
            inputs = write(folder, a_jsonl="\n".join(json.dumps({"text": text}) for text in wanted))
        elif format == "parquet":
            pq.write_table(pa.table({"text": wanted}), folder / "a.parquet", row_group_size=3)
            inputs = write(folder)
        else:
            delimiter = "\t" if format == "tsv" else ","
            buffer = io.StringIO()
            rows = [["text", "n"], *([text, "1"] for text in wanted)]
            csv.writer(buffer, delimiter=delimiter).writerows(rows)
            inputs = write(folder, **{f"a_{format}": buffer.getvalue()})
        options = TagOptions(rows_per_fragment=size)
        fragments = fragments_of(plans_of(inputs, options))

        assert [f.first_row for f in fragments] == list(range(0, len(wanted), size))
        assert sum(f.rows for f in fragments) == len(wanted)
        assert texts(inputs, rows_per_fragment=size) == wanted
        assert fragments == fragments_of(plans_of(inputs, options))


def test_fragments_change_with_their_bytes_alone(tmp_path: Path) -> None:
    options = TagOptions(rows_per_fragment=2)
    before = fragments_of(plans_of(write(tmp_path, a_txt="one\ntwo\nthree\n"), options))
    grown = fragments_of(plans_of(write(tmp_path, a_txt="one\ntwo\nthree\nfour\n"), options))
    other = fragments_of(plans_of(write(tmp_path, a_txt="one\ntwO\nthree\nfour\n"), options))

    assert grown[0] == before[0] and grown[1] != before[1]
    assert other[0] != grown[0] and other[1] == grown[1]


def test_a_file_that_changes_between_the_readings_is_refused(tmp_path: Path) -> None:
    from retrieveall.offline.job import job_schema
    from retrieveall.offline.reading import FragmentReader

    inputs = write(tmp_path, a_txt="one\ntwo\n")
    plans = plans_of(inputs, TagOptions())
    write(tmp_path, a_txt="one\nTWO\n")

    with pytest.raises(InputError, match=r"a\.txt, rows 0 to 1: the file changed"):
        FragmentReader(inputs.store, job_schema(plans), TagOptions()).read(plans[0].fragments[0])


def test_empty_files_have_no_rows(tmp_path: Path) -> None:
    inputs = write(tmp_path, a_txt="", b_jsonl="\n\n", c_csv="", d_csv="id\n", e_jsonl=b"\xef\xbb\xbf")
    assert fragments_of(plans_of(inputs, TagOptions())) == []


def test_lines_end_at_line_feeds_alone_and_blank_lines_are_texts(tmp_path: Path) -> None:
    inputs = write(tmp_path, a_txt=b"\xef\xbb\xbfone\r\n\ntw\x0bo\xe2\x80\xa8\nlast")
    assert texts(inputs) == ["one", "", "tw\vo\u2028", "last"]


def test_bad_lines_of_jsonl_are_rows_with_a_problem(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good", "id": 1}',
        b"{broken",
        b"",
        b'["a list"]',
        b'{"text": "caf\xe9", "id": 2}',
        b'{"text": "half \\ud83d", "id": 3}',
        b'{"id": 4}',
        b'{"text": ["x"], "id": 5}',
        b"[" * 100_000,
        b'{"text": "last", "id": 6}',
    ]
    inputs = write(tmp_path, a_jsonl=b"\n".join(lines))
    found = problems(inputs, rows_per_fragment=4)

    assert texts(inputs) == ["good", *[None] * 7, "last"]
    expected = [
        "no JSON",
        "object was expected",
        "byte 14 of the row, 0xe9",
        "U+D83D",
        "is null",
        "holds list",
    ]
    assert found[0] is None and found[-1] is None
    for problem, part in zip(found[1:], expected, strict=False):
        assert problem is not None and part in problem
    assert [row["id"] for row in columns(inputs)] == [1, None, None, 2, 3, 4, 5, None, 6]
    assert columns(inputs)[4]["text"] == "half �"


def test_fields_of_jsonl_keep_their_types_or_become_json(tmp_path: Path) -> None:
    inputs = write(
        tmp_path,
        a_jsonl='{"text": "a", "n": 1, "tags": ["x"], "meta": {"a": 1}, "mixed": 1, "empty": {}}\n'
        '{"text": "b", "n": 2.5, "tags": [], "meta": {"b": "y"}, "mixed": "one", "big": 1e400}\n',
        b_jsonl='{"text": "c", "mixed": {"deep": [1]}, "huge": 99999999999999999999999}\n',
    )
    first, second, third = columns(inputs, rows_per_fragment=1)

    assert first["n"] == 1.0 and second["n"] == 2.5 and third["n"] is None
    assert first["tags"] == ["x"] and second["tags"] == []
    assert first["meta"] == {"a": 1, "b": None} and second["meta"] == {"a": None, "b": "y"}
    assert [row["mixed"] for row in (first, second, third)] == ["1", "one", '{"deep": [1]}']
    assert first["empty"] == "{}" and third["huge"] == "99999999999999999999999"


def test_csv_cells_may_hold_quotes_commas_and_lines(tmp_path: Path) -> None:
    rows = [["id", "text"], ["007", 'She said "no", twice\nand left'], ["8", ""], ["9", "plain"]]
    inputs = write(tmp_path, a_csv=as_csv(rows) + "\n")

    assert texts(inputs, rows_per_fragment=1) == [row[1] for row in rows[1:]]
    assert [row["id"] for row in columns(inputs)] == ["007", "8", "9"]


def test_bad_rows_of_csv_are_rows_with_a_problem(tmp_path: Path) -> None:
    inputs = write(tmp_path, a_csv=b"id,text\n1,one\n2\n3,a,b\n4,b\xe4d\n5,a\rb\n6,six\n")
    found = problems(inputs)

    assert texts(inputs) == ["one", None, None, None, None, "six"]
    assert found[1] == "1 cells, the header has 2"
    assert "0xe4" in str(found[3]) and "new-line" in str(found[4])


def test_headers_of_csv_are_checked(tmp_path: Path) -> None:
    inputs = write(tmp_path, a_csv=",text\n0,a\n")
    assert columns(inputs) == [{"column_1": "0", "text": "a"}]
    with pytest.raises(InputError, match=r"a\.csv has two columns 'text'"):
        read_all(write(tmp_path, a_csv="text,text\na,b\n"))


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"a_csv": "id,body\n1,x\n"}, "id, body"),
        ({"a_jsonl": '{"body": "x"}\n{"id": 1}\n'}, "body, id"),
        ({"a_jsonl": "nothing\n"}, "none that could be read"),
    ],
)
def test_a_missing_column_is_told_with_those_that_are_there(
    tmp_path: Path, files: dict[str, str], there: str
) -> None:
    with pytest.raises(InputError, match=f"no column 'text'; its columns are: {there}. Choose with --text"):
        read_all(write(tmp_path, **files))


def test_a_missing_language_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'lang'.*--language-column"):
        read_all(write(tmp_path, a_csv="text\nx\n"), TagOptions(language_column="lang"))


def test_languages_are_read_from_their_column(tmp_path: Path) -> None:
    inputs = write(tmp_path, a_jsonl='{"text": "a", "lang": "en"}\n{"text": "b"}\n')
    (rows,) = read_all(inputs, TagOptions(language_column="lang"))
    assert rows.languages == ["en", None]
    (rows,) = read_all(inputs, TagOptions(language="ru"))
    assert rows.languages == ["ru", "ru"]


def test_utf16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt: wrong encoding: the file is UTF-16"):
        read_all(write(tmp_path, a_txt="text".encode("utf-16")))


def test_parquet_passes_nested_columns_on_and_joins_files(tmp_path: Path) -> None:
    nested = [{"spans": [{"start": 1}]}, None]
    pq.write_table(pa.table({"text": ["a", None], "meta": nested, "n": [1, 2]}), tmp_path / "a.parquet")
    other = pa.table({"n": pa.array([3], pa.int32()), "text": pa.array(["b"], pa.large_string())})
    pq.write_table(other, tmp_path / "b.parquet")
    rows = columns(write(tmp_path))

    assert [row["meta"] for row in rows] == [*nested, None]
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert texts(write(tmp_path)) == ["a", None, "b"]
    assert problems(write(tmp_path))[1] == "the column 'text' is null"


def test_parquet_strings_that_are_not_utf8_are_mended_and_told(tmp_path: Path) -> None:
    cells = pa.array([b"good", b"caf\xe9", None], pa.binary())
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 3, cells.buffers()), "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    (rows,) = read_all(write(tmp_path))

    assert rows.columns.column("text").to_pylist() == ["good", "caf�", None]
    assert rows.problems[0] is None and "UTF-8" in str(rows.problems[1])


def test_broken_pages_of_parquet_are_rows_with_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    wanted = [f"text number {number} " * 20 for number in range(400)]
    pq.write_table(pa.table({"text": wanted}), path, row_group_size=200, use_dictionary=False)
    second = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[second : second + 400] = bytes(400)
    path.write_bytes(data)
    inputs = write(tmp_path)

    assert texts(inputs, rows_per_fragment=200) == wanted[:200] + [None] * 200
    assert all("broken here" in str(problem) for problem in problems(inputs, rows_per_fragment=200)[200:])


def test_parquet_must_be_parquet_with_strings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet is not a readable Parquet file"):
        read_all(write(tmp_path / "one", a_parquet=b"no"))
    (tmp_path / "two").mkdir()
    pq.write_table(pa.table({"text": [1]}), tmp_path / "two" / "a.parquet")
    with pytest.raises(InputError, match=r"'text' of a\.parquet holds int64; expected strings"):
        read_all(write(tmp_path / "two"))


def test_parquet_columns_of_two_kinds_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"'n' is int64 in a\.parquet and string in b\.parquet"):
        read_all(write(tmp_path))


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), order=st.randoms(use_true_random=False))
def test_row_ranges_of_parquet_can_be_read_in_any_order(sizes: list[int], order: Any) -> None:
    from retrieveall.offline.parquet import ParquetCursors
    from retrieveall.storage import Store

    with tempfile.TemporaryDirectory() as name:
        total = sum(sizes)
        pq.write_table(pa.table({"n": range(total)}), f"{name}/a.parquet", row_group_size=3)
        cursors = ParquetCursors(Store.open(name))
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        ranges = list(zip(starts, sizes, strict=True))
        order.shuffle(ranges)
        for start, size in ranges:
            found = cursors.read("a.parquet", start, size).column("n").to_pylist()
            assert found == list(range(start, start + size))
