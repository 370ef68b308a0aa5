"""Which files an input is."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieveall.errors import InputError, NotFoundError
from retrieveall.offline.inputs import find_inputs
from tests.offline import write


def test_a_folder_gives_its_files_in_order_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    write(tmp_path / "in" / "deep", b_tsv="text\n")
    (tmp_path / "in" / "_SUCCESS").touch()
    inputs = write(tmp_path / "in", a_JSONL="", c_md="# no", b_parquet=b"")

    assert [(file.path, file.format) for file in inputs.files] == [
        ("a.JSONL", "jsonl"),
        ("b.parquet", "parquet"),
        ("deep/b.tsv", "tsv"),
    ]
    assert inputs.ignored == ("c.md",)
    assert inputs.is_folder


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_single_file_stands_in_its_folder(tmp_path: Path, scheme: str) -> None:
    write(tmp_path, a_txt="x", b_txt="y")
    inputs = find_inputs(f"{scheme}{tmp_path}/a.txt")

    assert [file.path for file in inputs.files] == ["a.txt"]
    assert inputs.store.read_text("a.txt") == "x"
    assert not inputs.is_folder


def test_a_relative_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_txt="x")
    monkeypatch.chdir(tmp_path)

    assert find_inputs("a.txt").store.read_text("a.txt") == "x"
    assert [file.path for file in find_inputs(".").files] == ["a.txt"]


def test_the_format_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, data_json="{}", more_txt="")

    assert find_inputs(f"{tmp_path}/data.json", "jsonl").files[0].format == "jsonl"
    assert {file.format for file in find_inputs(str(tmp_path), "text").files} == {"text"}


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")

    with pytest.raises(InputError, match=r"format of 'data.json'.*--format"):
        find_inputs(f"{tmp_path}/data.json")
    with pytest.raises(InputError, match=r"only data.json.*--format"):
        find_inputs(str(tmp_path))
    with pytest.raises(NotFoundError, match="nothing"):
        find_inputs(f"{tmp_path}/nothing.txt")
