"""Tokens become text by their script; offsets count code points and are exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.corpus.joining import Joining, is_character_tokenised, join_tokens, sentence_joining
from retrieveall.text.units import split_units
from tests.corpora import WORDS

CASES = [
    ("en", ["Paris", ",", "France", "."], "Paris , France ."),
    ("zh", ["然而", "，", "iPhone", "Pro", "5", "款"], "然而，iPhone Pro5款".replace("Pro5", "Pro 5")),
    ("zh-hans", ["2004", "年"], "2004年"),
    ("zh-hans", ["Hello", ",", "world"], "Hello , world"),  # nothing Chinese in it
    ("ja", ["「", "東京", "」", "は", "New", "York"], "「東京」はNew York"),
    ("th", ["คสช.", "ขอบคุณ", "5", "10", "สาย"], "คสช.ขอบคุณ5 10สาย"),
    ("th", ["5", "-", "10"], "5-10"),  # no letter: the language decides
    ("lo", ["ປະເທດ", "ລາວ"], "ປະເທດລາວ"),
    ("km", ["ភាសា", "ខ្មែរ"], "ភាសាខ្មែរ"),
    ("my", ["မြန်မာ", "စာ"], "မြန်မာစာ"),
    ("de", ["东京", "是", "日本", "的", "X"], "东京是日本的X"),  # a Chinese sentence in a German corpus
    ("de", ["Die", "Stadt", "东京", "liegt"], "Die Stadt 东京 liegt"),
    ("ko", ["부산", "에서"], "부산 에서"),
    ("ar", ["في", "باريس", "."], "في باريس ."),
]


@pytest.mark.parametrize(("language", "tokens", "text"), CASES)
def test_tokens_join_by_script(language: str, tokens: list[str], text: str) -> None:
    joined, spans = join_tokens(tokens, sentence_joining(tokens, language))
    assert joined == text
    assert [joined[span.start_char : span.end_char] for span in spans if span] == tokens


@given(st.lists(st.one_of(WORDS, st.sampled_from([" ", "\u3000", "\u00a0x", "New York"])), max_size=8))
@pytest.mark.parametrize("joining", ["spaced", "unspaced", "characters"])
def test_offsets_give_the_tokens_back(joining: Joining, tokens: list[str]) -> None:
    text, spans = join_tokens(tokens, joining)
    assert len(spans) == len(tokens) and text == text.strip()
    for token, span in zip(tokens, spans, strict=True):
        assert (text[span.start_char : span.end_char] if span else "") == token.strip()


@given(st.lists(st.sampled_from(["東京", "iPhone", "5", "X", "は", "สาย", "부산", "."]), max_size=8))
def test_tokens_never_melt_into_one_word(tokens: list[str]) -> None:
    text, spans = join_tokens(tokens, "unspaced")
    starts = {unit.start_char for unit in split_units(text)}
    assert all(span is not None and span.start_char in starts for span in spans)


def test_white_space_tokens_are_the_gap() -> None:
    text, spans = join_tokens([" ", "ไทย", " ", "ลาว", " "], "unspaced")
    assert text == "ไทย ลาว"
    assert [span is None for span in spans] == [True, False, True, False, True]


def test_character_corpora_are_told_from_words() -> None:
    assert is_character_tokenised([list("부산에서만난사람")] * 2)
    assert is_character_tokenised([["각", "e\u0301", *"ABCDEFGH"]])
    assert not is_character_tokenised([["나", "는"]])  # too little to tell
    assert not is_character_tokenised([["I", "am", "a", "b", "c", "d", "e", "f", "g", "h"]])
    assert not is_character_tokenised([])
