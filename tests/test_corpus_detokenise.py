"""Detokenising changes spaces only, keeps every offset right, and writes as people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.corpus.detokenise import detokenise
from retrieveall.corpus.joining import join_tokens
from retrieveall.text.mentions import first_inexpressible
from retrieveall.types import GoldEntity, Sentence
from tests.corpora import WORDS, mentions, sentence, token_texts

PROSE = [
    ("en", "Paris , France .", "Paris, France."),
    ("en", "\" I do n't know Bob 's car ( it 's red ) . \"", "\"I don't know Bob's car (it's red).\""),
    ("en", "the Jones ' house costs $ 5 , 000 !", "the Jones' house costs $5, 000!"),
    ("en", "“ Paris ” , she said", "“Paris”, she said"),
    ("en", "Peter ’s & Mary", "Peter’s & Mary"),
    ("en", "&amp; &quot; stay", "&amp; &quot; stay"),
    ("fr", "L' Orne est là : « oui » ?", "L'Orne est là : « oui » ?"),
    ("de", "„ Hallo “ , sagte er .", "„Hallo“, sagte er."),
    ("es", "¿ Dónde está « La Paz » ?", "¿Dónde está «La Paz»?"),
    ("ru", "« Крус Асуль » ( Мехико ) .", "«Крус Асуль» (Мехико)."),
    ("it", "L' Aquila è bella .", "L'Aquila è bella."),
    ("hi", "वह दिल्ली में है ।", "वह दिल्ली में है।"),
    ("ar", "هل هو في باريس ؟", "هل هو في باريس؟"),
    ("cs", "posílá e-mail - li , 5 . 6 %", None),
    ("fi", "EU :n", None),
    ("pt", "' '' Alex Baldolini '' '", "'''Alex Baldolini'''"),
]


@pytest.mark.parametrize(("language", "tokens", "prose"), PROSE)
def test_prose(language: str, tokens: str, prose: str | None) -> None:
    found = detokenise(sentence(tokens, language=language))
    assert token_texts(found) == tokens.split(" ")
    assert prose is None or found.text == prose


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    """Draws spaced sentences full of punctuation, with touching entities."""
    words = ["''", "``", "n't", "'s", "l'", "@-@", "&amp;", "東京", "5"]
    marks = st.sampled_from([*"\"'.,;:!?()[]«»“”„’-/।؟$%", *words])
    tokens = draw(st.lists(st.one_of(marks, WORDS), min_size=1, max_size=10))
    text, spans = join_tokens(tokens, "spaced")
    labels = draw(st.lists(st.sampled_from(["", "PER", "LOC"]), min_size=len(tokens), max_size=len(tokens)))
    entities = tuple(
        GoldEntity(start_char=span.start_char, end_char=span.end_char, label=label)
        for span, label in zip(spans, labels, strict=True)
        if label and span
    )
    placed = tuple(span for span in spans if span)
    language = draw(st.sampled_from(["en", "fr", "cs", "fi", "it", "de", "hi", "zh", "ko", "xx"]))
    return Sentence(
        id="train-0", language=language, text=text, tokens=placed, entities=entities, split="train"
    )


@given(sentences())
def test_only_spaces_change(row: Sentence) -> None:
    found = detokenise(row)
    assert found.text.replace(" ", "") == row.text.replace(" ", "")
    assert token_texts(found) == token_texts(row)
    assert mentions(found) == mentions(row)
    assert (found.id, found.language, found.split) == (row.id, row.language, row.split)


@given(sentences())
def test_detokenised_text_stays_as_it_is(row: Sentence) -> None:
    found = detokenise(row)
    assert detokenise(found) == found


@given(sentences())
def test_no_entity_edge_falls_inside_a_word(row: Sentence) -> None:
    if first_inexpressible(row.text, row.entities) is None:
        found = detokenise(row)
        assert first_inexpressible(found.text, found.entities) is None


def test_scripts_without_spaces_stay_as_they_are() -> None:
    text, spans = join_tokens(["東京", "、", "日本", "。"], "unspaced")
    row = Sentence(
        id="a", language="ja", text=text, tokens=tuple(s for s in spans if s), entities=(), split="dev"
    )
    assert detokenise(row) is row


def test_an_entity_of_several_tokens_moves_along() -> None:
    found = detokenise(sentence("( St . John 's , Canada )", (1, 5, "LOC"), (6, 7, "LOC")))
    assert found.text == "(St. John's, Canada)"
    assert mentions(found) == [("St. John's", "LOC"), ("Canada", "LOC")]
