from __future__ import annotations

from typing import Any

import pytest

from retrieveall.errors import InputError, LoneSurrogateError, TooLargeError, UnknownLanguageError
from retrieveall.taught.checking import MAX_CHARS, check_examples, example_id
from retrieveall.types import GoldEntity, Sentence

LABELS = {"de": ("PER", "LOC"), "ja": ("LOC",), "sw": ("PER",)}
INDEXED = ("de", "ja")


def span(start: int, end: int, label: str = "PER") -> dict[str, Any]:
    return {"start_char": start, "end_char": end, "label": label}


def check(text: str, *entities: dict[str, Any], language: str = "de") -> Sentence:
    record = {"text": text, "language": language, "entities": list(entities)}
    return check_examples([record], LABELS, INDEXED)[0]


def test_an_example_becomes_a_sentence_named_by_language_and_text() -> None:
    sentence = check("Anna lebt in Bern .", span(13, 17, "LOC"), span(0, 4))

    assert sentence.entities == (
        GoldEntity(start_char=0, end_char=4, label="PER"),
        GoldEntity(start_char=13, end_char=17, label="LOC"),
    )
    assert sentence.id == example_id("de", "Anna lebt in  Bern.") != example_id("ja", "Anna lebt in Bern.")
    assert check("Anna geht.").entities == ()
    assert check("東京に行く", span(0, 2, "LOC"), language="ja").entities[0].label == "LOC"


@pytest.mark.parametrize(
    ("text", "entities", "named"),
    [
        ("Anna geht.", [span(0, 4, "ORG")], "label 'ORG' was given, the adapter of 'de' knows: PER, LOC"),
        ("Anna geht.", [span(0, 3)], "inside a word"),
        ("Anna geht.", [span(0, 40)], "out of range"),
        ("Anna geht.", [span(4, 4)], "out of range"),
        ("Anna geht.", [span(0, 4), span(0, 9)], "overlap"),
        ("Anna geht.", [span(0, 4, "A B")], "label"),
        ("  \n", [], "empty"),
        ("Anna \ud800", [], "surrogate"),
    ],
)
def test_what_cannot_be_retrieved_or_emitted_is_refused(
    text: str, entities: list[dict[str, Any]], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        check(text, *entities)


def test_languages_without_adapter_or_index_and_long_texts_are_refused() -> None:
    with pytest.raises(UnknownLanguageError, match="de, ja, sw"):
        check("Anna", language="nl")
    with pytest.raises(InputError, match="no index"):
        check("Anna", language="sw")
    with pytest.raises(TooLargeError, match=str(MAX_CHARS)):
        check("a" * (MAX_CHARS + 1))
    record = {"text": "Anna", "language": "de", "entities": []}
    with pytest.raises(InputError, match=r"examples\.1.*before"):
        check_examples([record, {**record, "text": " Anna "}], LABELS, INDEXED)


def test_half_a_surrogate_pair_has_its_own_error() -> None:
    with pytest.raises(LoneSurrogateError):
        check("Anna \ud800")
