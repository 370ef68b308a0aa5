"""The base's tokenizer loses no character, cuts where units end, and keeps markers out of user text."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from retrieveall.errors import InputError
from retrieveall.models.tokenizer import END, LABELS, PAD, train_tokenizer
from retrieveall.prompting.codec import MARKERS, PromptCodec, label_marker
from retrieveall.text.units import split_units, unit_pieces
from tests.models import SENTENCES

# Characters of the Unicode version that Python knows; the two regex engines know them all.
ANY_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=40)
SCRIPTS = ("Anna", "né", "e\u0301", "東京", "ラーメン", "กรุงเทพ", "서울에", "ที่", "-", "\u200d", "👩‍👧", "x_1")
MIXED_TEXT = st.lists(st.sampled_from((" ", "  ", "\n", *SCRIPTS)) | ANY_TEXT, max_size=8).map("".join)
SPELLED_MARKERS = (*MARKERS, *map(label_marker, LABELS), END, PAD)


@functools.cache
def trained(vocabulary_size: int = 420) -> Any:
    return train_tokenizer(SENTENCES, vocabulary_size=vocabulary_size)


@functools.cache
def codec() -> PromptCodec:
    return PromptCodec(trained())


def marker_ids() -> set[int]:
    return {codec().piece(marker)[0] for marker in SPELLED_MARKERS}


@settings(max_examples=30)
@given(text=MIXED_TEXT)
@example(text="e\u0301\u0301 \u200dx\u200cy 🇩🇪 \x00\ufeff")
def test_units_decode_to_themselves_one_by_one(text: str) -> None:
    encoded = codec().text(text)
    pieces = unit_pieces(text, encoded.units)
    assert [codec().spelling(ids) for ids in encoded.unit_ids] == pieces
    assert codec().spelling(encoded.ids) == "".join(pieces)


@settings(max_examples=30)
@given(text=ANY_TEXT)
def test_running_text_survives_with_its_white_space(text: str) -> None:
    if any(marker in text for marker in SPELLED_MARKERS):
        return
    ids = trained()(text, add_special_tokens=False)["input_ids"]
    assert codec().spelling(ids) == text


@settings(max_examples=30)
@given(text=MIXED_TEXT)
@example(text="Paris, in东京และ서울에 l'eau x² ａｂ１ ーー々〇")
def test_a_unit_has_the_same_ids_alone_and_in_running_text(text: str) -> None:
    encoded = codec().text(text)
    running = "".join(unit_pieces(text, encoded.units))
    assert trained()(running, add_special_tokens=False)["input_ids"] == encoded.ids


def test_training_text_needs_fewer_tokens_than_bytes() -> None:
    for sentence in SENTENCES[:3]:
        assert len(codec().text(sentence).ids) < 0.7 * len(sentence.encode())


@pytest.mark.parametrize("marker", SPELLED_MARKERS)
def test_every_marker_is_one_token(marker: str) -> None:
    ids = codec().piece(marker)
    assert len(ids) == 1
    assert codec().spelling(ids) == marker


def test_markers_have_different_ids_and_stay_within_the_asked_size() -> None:
    assert len(marker_ids()) == len(SPELLED_MARKERS)
    assert len(trained()) == 420


@settings(max_examples=30)
@given(parts=st.lists(st.sampled_from((*SPELLED_MARKERS, *"\n <>:a東", "PER", "Tags")), max_size=12))
def test_user_text_never_yields_a_marker(parts: list[str]) -> None:
    text = "".join(parts)
    encoded = codec().text(text)
    assert not marker_ids() & set(encoded.ids)
    assert codec().spelling(encoded.ids) == "".join(unit_pieces(text, split_units(text)))


def test_an_unknown_label_is_spelled_and_is_not_a_known_one() -> None:
    ids = codec().label("ZEBRA")
    assert len(ids) > 1
    assert not marker_ids() & set(ids)
    assert codec().spelling(ids) == "<ZEBRA>"


def test_training_twice_gives_the_same_file() -> None:
    again = train_tokenizer(SENTENCES, vocabulary_size=420)
    assert again.backend_tokenizer.to_str() == trained().backend_tokenizer.to_str()


def test_a_saved_tokenizer_opens_as_any_other(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    auto: Any = AutoTokenizer
    opened = auto.from_pretrained(tmp_path)
    assert (opened.eos_token, opened.bos_token, opened.pad_token) == (END, END, PAD)
    for sentence in (*SENTENCES, "<PER>"):
        assert PromptCodec(opened).text(sentence) == codec().text(sentence)


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match="vocabulary of 100 tokens"):
        train_tokenizer(SENTENCES, vocabulary_size=100)
