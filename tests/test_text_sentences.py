"""Nothing of a text may be lost between sentences or windows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.prompting.codec import EncodedText
from retrieveall.text.sentences import split_sentences
from retrieveall.text.units import split_units, unit_pieces
from retrieveall.text.windows import split_windows
from retrieveall.types import Span

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200)


def visible(text: str, spans: tuple[Span, ...]) -> str:
    return "".join("".join(text[s.start_char : s.end_char].split()) for s in spans)


@given(texts)
def test_sentences_cover_every_visible_character_once(text: str) -> None:
    assert visible(text, split_sentences(text)) == "".join(text.split())


@given(texts)
def test_units_cover_every_visible_character_once(text: str) -> None:
    assert visible(text, split_units(text)) == "".join(text.split())


def test_sentences_of_mixed_languages() -> None:
    text = "Dr. Smith came. Er ging nach Köln!  彼は行った。田中さんは来た。"
    found = [text[s.start_char : s.end_char] for s in split_sentences(text)]
    assert found == ["Dr. Smith came.", "Er ging nach Köln!", "彼は行った。", "田中さんは来た。"]


def test_a_lone_surrogate_is_named() -> None:
    with pytest.raises(InputError, match=r"Character 3 .*U\+D800"):
        split_sentences("abc\ud800")


def encode_by_letters(text: str) -> EncodedText:
    units = split_units(text)
    return EncodedText(units=units, unit_ids=tuple(tuple(map(ord, p)) for p in unit_pieces(text, units)))


@given(texts, st.integers(1, 40))
def test_windows_cover_all_units_and_fit(text: str, max_tokens: int) -> None:
    windows = split_windows(text, encode_by_letters(text), max_tokens=max_tokens)
    assert visible(text, windows) == "".join(text.split())
    for window in windows:
        part = encode_by_letters(text[window.start_char : window.end_char])
        assert len(part.units) == 1 or sum(map(len, part.unit_ids)) <= max_tokens + 1


def test_windows_cut_after_stops() -> None:
    text = "one two three . four five six seven eight"
    first = split_windows(text, encode_by_letters(text), max_tokens=24)[0]
    assert text[: first.end_char] == "one two three ."
