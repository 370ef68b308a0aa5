from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.names import check_digest, check_label, check_name, check_path

ESCAPES = ["../x", "..", ".", "", "/etc/passwd", "a/../b", "a//b", "a\\b", "a\0b", "a\nb", "a/", "/"]


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_that_leave_their_folder_are_refused(path: str) -> None:
    with pytest.raises(InputError, match="relative path"):
        check_path(path)


@given(st.text(max_size=20))
def test_names_that_pass_are_one_harmless_part_of_a_path(text: str) -> None:
    try:
        name = check_name(text)
    except InputError:
        return
    assert name == text and check_path(name) == name
    assert "/" not in name and not name.startswith(".")


@pytest.mark.parametrize(
    "digest", ["", "0" * 15, "0" * 17, "G" * 16, "A" * 16, "0" * 63, "0" * 16 + "\n", "../x"]
)
def test_digests_are_lower_case_hexadecimal(digest: str) -> None:
    with pytest.raises(InputError, match="hexadecimal"):
        check_digest(digest)


def test_good_names_pass() -> None:
    assert check_digest("0123456789abcdef") == "0123456789abcdef"
    assert check_label("人名") == "人名"
    assert check_name("run-1_b.c") == "run-1_b.c"
    assert check_path("en/3f/manifest.json") == "en/3f/manifest.json"


@pytest.mark.parametrize("label", ["", "A B", "<PER>", "a\tb", "x" * 65])
def test_labels_that_would_break_a_tag_line_are_refused(label: str) -> None:
    with pytest.raises(InputError, match="label"):
        check_label(label)
