"""Guesses are mentions of the examples and name-like runs, in order and apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.engine.protocol import GuessedSpan
from retrieveall.guessing import guess_spans
from retrieveall.prompting.codec import PromptCodec
from retrieveall.types import EntityExample, Examples
from tests.models import LABELS, SENTENCES, tiny_tokenizer

CODEC = PromptCodec(tiny_tokenizer())


def shown(*pairs: tuple[str, str]) -> Examples:
    return Examples(entity=tuple(EntityExample(mention=mention, label=label) for mention, label in pairs))


def guessed(text: str, examples: Examples) -> list[tuple[str, str]]:
    units = CODEC.text(text).units
    return [
        (text[units[span.first_unit].start_char : units[span.end_unit - 1].end_char], span.label)
        for span in guess_spans(text, CODEC.text(text), examples, LABELS)
    ]


def test_mentions_of_examples_keep_their_labels_and_other_names_get_the_usual_one() -> None:
    examples = shown(("Oslo", "LOC"), ("Statoil", "ORG"), ("Equinor", "ORG"))
    assert guessed("today Statoil left Oslo because Aker came", examples) == [
        ("Statoil", "ORG"),
        ("Oslo", "LOC"),
        ("Aker", "ORG"),
    ]


def test_the_strongest_example_names_the_label_and_the_longest_mention_wins() -> None:
    examples = shown(("New York", "LOC"), ("New", "ORG"), ("New York", "PER"))
    assert guessed("in New York", examples) == [("New York", "LOC")]


def test_scripts_without_capitals_have_the_examples_alone() -> None:
    assert guessed("东京是日本的首都", shown(("日本", "LOC"))) == [("日本", "LOC")]
    assert guessed("东京是日本的首都", Examples()) == []


@given(text=st.sampled_from(SENTENCES) | st.text(max_size=40), mention=st.text(max_size=5))
def test_guesses_stand_in_order_inside_the_sentence(text: str, mention: str) -> None:
    encoded = CODEC.text(text)
    spans: tuple[GuessedSpan, ...] = guess_spans(text, encoded, shown((mention, "PER")), LABELS)
    borders = [border for span in spans for border in (span.first_unit, span.end_unit)]
    assert borders == sorted(borders)
    assert all(span.first_unit < span.end_unit <= len(encoded.units) for span in spans)
