"""Language codes never leave their folder, and CLDR's facts reach the caller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.languages import check_language, likely_script, writes_spaces


@pytest.mark.parametrize(
    ("given_code", "expected"),
    [
        ("nl", "nl"),
        ("zh-Hans", "zh-hans"),
        ("zh_Hans", "zh-hans"),
        ("be-x-old", "be-x-old"),
        ("simple", "simple"),
    ],
)
def test_codes_are_folded_to_the_panx_spelling(given_code: str, expected: str) -> None:
    assert check_language(given_code) == expected


@pytest.mark.parametrize(
    "code",
    ["", "n", "..", "nl/..", "nl\n", "nl-", "-nl", "n l", "ｎｌ", "nl.", "a" * 36, "nl\x00", "K" + "İ"],
)
def test_what_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(InputError, match="language code"):
        check_language(code)


@given(st.text(max_size=12))
def test_a_checked_code_is_one_safe_path_part(code: str) -> None:
    try:
        checked = check_language(code)
    except InputError:
        return
    assert checked.isascii() and not set(checked) & set("/\\.: \n\0") and check_language(checked) == checked


@pytest.mark.parametrize(
    ("code", "script"),
    [
        ("sr", "Cyrl"),
        ("sr-latn", "Latn"),
        ("ja", "Jpan"),
        ("zh-tw", "Hant"),
        ("zh-yue", "Hant"),
        ("qqq", None),
    ],
)
def test_likely_script(code: str, script: str | None) -> None:
    assert likely_script(code) == script


def test_spaces() -> None:
    unspaced = ("zh", "zh-hant", "zh-classical", "ja", "th", "lo", "km", "my", "bo")
    assert not any(writes_spaces(code) for code in unspaced)
    assert all(writes_spaces(code) for code in ("ko", "vi", "hi", "ar", "qqq"))
