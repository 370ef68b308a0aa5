"""Prompts are encoded piece by piece: mentions are runs of their sentence's tokens, markers stay ours."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import ConfigError
from retrieveall.models.tokenizer import train_tokenizer
from retrieveall.prompting import codec as codec_module
from retrieveall.prompting.codec import MARKERS, EncodedText, PromptCodec, label_marker
from retrieveall.text.units import split_units
from retrieveall.types import GoldEntity
from tests.annotated import annotated
from tests.models import SENTENCES, tiny_tokenizer

PARTS = (" ", "\t", "Anna", "Paris", ".", "<PER>", "\nTags:", "東京", "กรุง", "e\u0301", "’s", "👩‍👧")
TEXT = st.lists(st.sampled_from(PARTS) | st.text(st.characters(codec="utf-8"), max_size=6), max_size=10).map(
    "".join
)


class CharacterTokenizer:
    """One id per code point; drops what it was told to, as some tokenizers drop control characters."""

    name_or_path = "characters"
    pad_token_id = 2
    eos_token_id: int | None = 1
    bos_token_id: int | None = 0

    def __init__(self, dropped: str = "") -> None:
        self.dropped = dropped
        self.calls = 0

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        self.calls += 1
        return {"input_ids": [ord(sign) + 3 for sign in text if sign not in self.dropped]}

    def decode(self, ids: list[int], *, clean_up_tokenization_spaces: bool) -> str:
        assert not clean_up_tokenization_spaces
        return "".join(chr(token - 3) for token in ids)


class ByteTokenizer(CharacterTokenizer):
    """One id per byte; its beginning and end token are the same."""

    bos_token_id = 1

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [byte + 3 for byte in text.encode()]}

    def decode(self, ids: list[int], *, clean_up_tokenization_spaces: bool) -> str:
        return bytes(token - 3 for token in ids).decode()


@functools.cache
def codecs() -> dict[str, PromptCodec]:
    return {
        "characters": PromptCodec(CharacterTokenizer()),
        "bytes": PromptCodec(ByteTokenizer()),
        "plain bpe": PromptCodec(tiny_tokenizer()),
        "embedded base": PromptCodec(train_tokenizer(SENTENCES, vocabulary_size=420)),
    }


every_codec = pytest.mark.parametrize("name", ["characters", "bytes", "plain bpe", "embedded base"])


@every_codec
@settings(max_examples=20)
@given(text=TEXT)
def test_every_unit_has_ids_and_they_spell_it(name: str, text: str) -> None:
    codec = codecs()[name]
    encoded = codec.text(text)
    assert encoded.units == split_units(text)
    assert all(encoded.unit_ids)
    for unit, ids in zip(encoded.units, encoded.unit_ids, strict=True):
        assert codec.spelling(ids).removeprefix(" ") == text[unit.start_char : unit.end_char]


@every_codec
@settings(max_examples=20)
@given(text=TEXT, data=st.data())
def test_a_tag_line_is_runs_of_the_sentence_with_markers_between(
    name: str, text: str, data: st.DataObject
) -> None:
    codec = codecs()[name]
    encoded = codec.text(text)
    borders = sorted(data.draw(st.sets(st.integers(0, len(encoded.units)), max_size=6)))
    ranges = list(zip(borders[::2], borders[1::2], strict=False))
    entities = [
        GoldEntity(
            start_char=encoded.units[first].start_char, end_char=encoded.units[last - 1].end_char, label="LOC"
        )
        for first, last in ranges
    ]
    expected = [
        token
        for first, last in ranges
        for token in (*EncodedText(units=(), unit_ids=encoded.unit_ids[first:last]).ids, *codec.label("LOC"))
    ]
    assert codec.tags(encoded, entities) == expected


@settings(max_examples=40)
@given(text=TEXT)
def test_no_marker_token_ever_comes_from_text(text: str) -> None:
    for name in ("plain bpe", "embedded base"):
        codec = codecs()[name]
        ours = {codec.piece(marker) for marker in (*MARKERS, label_marker("PER"))}
        assert all(len(ids) == 1 for ids in ours)
        assert not {ids[0] for ids in ours} & set(codec.text(text).ids)


@every_codec
def test_a_word_has_the_same_ids_at_the_start_and_inside(name: str) -> None:
    codec = codecs()[name]
    start, inside = codec.text("Paris Paris").unit_ids
    assert start == inside


def test_mentions_inside_a_unit_are_left_out_of_the_tag_line() -> None:
    codec = codecs()["characters"]
    sentence = annotated("pre[Paris](LOC) and [Oslo](LOC)")
    line = codec.tags(codec.text(sentence.text), sentence.entities)
    assert codec.spelling(line) == " Oslo<LOC>"


def test_the_tag_line_reads_mention_marker_mention_marker() -> None:
    codec = codecs()["characters"]
    sentence = annotated("[Anna B.](PER) lives in [東京](LOC).")
    line = codec.tags(codec.text(sentence.text), sentence.entities)
    assert codec.spelling(line) == " Anna B.<PER> 東京<LOC>"


def test_unit_range_finds_borders_only() -> None:
    encoded = codecs()["characters"].text("Anna saw Bo")
    assert encoded.unit_range(0, 4) == (0, 1)
    assert encoded.unit_range(5, 11) == (1, 3)
    assert encoded.unit_range(1, 4) is None
    assert encoded.unit_range(0, 5) is None
    assert encoded.unit_range(9, 4) is None


def test_what_the_tokenizer_drops_becomes_the_replacement_character() -> None:
    codec = PromptCodec(CharacterTokenizer(dropped="\x07 "))
    encoded = codec.text("a \x07 b")
    assert [codec.spelling(ids) for ids in encoded.unit_ids] == ["a", "\ufffd", "b"]


def test_the_start_token_is_shown_only_where_it_is_not_the_end_token() -> None:
    assert codecs()["characters"].start_ids == (0,)
    assert codecs()["bytes"].start_ids == ()
    assert codecs()["plain bpe"].start_ids == ()


def test_a_tokenizer_without_end_token_is_refused() -> None:
    tokenizer = CharacterTokenizer()
    tokenizer.eos_token_id = None
    with pytest.raises(ConfigError, match=r"'characters'.*eos_token"):
        PromptCodec(tokenizer)


def test_a_piece_is_tokenised_once_and_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = CharacterTokenizer()
    codec = PromptCodec(tokenizer)
    codec.text("one two one two")
    assert tokenizer.calls == 2
    monkeypatch.setattr(codec_module, "_CACHE_PIECES", 4)
    words = [f"w{number}" for number in range(40)]
    assert codec.spelling(codec.text(" ".join(words)).ids) == " " + " ".join(words)
    cache: Any = vars(codec)["_cache"]
    assert len(cache) <= 4


def test_threads_share_a_codec() -> None:
    codec = PromptCodec(tiny_tokenizer())
    texts = [f"{sentence} {number}" for number in range(8) for sentence in SENTENCES]
    with ThreadPoolExecutor(4) as pool:
        encoded = list(pool.map(codec.text, texts))
    assert encoded == [PromptCodec(tiny_tokenizer()).text(text) for text in texts]
