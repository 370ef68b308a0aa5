"""Renamed rows keep all but the names, the same new name stands wherever the old one stood."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.training.renaming import NameMaker, draw_names, rename_examples, rename_sentence
from retrieveall.types import ContextExample, EntityExample, Examples, Sentence
from tests.annotated import annotated

TRAIN = (
    annotated("[Hannelore Sievers](PER) flew to [Frankfurt](LOC) ."),
    annotated("[Otto van Almen](PER) left [NATO](ORG) and [Bremen](LOC) ."),
    annotated("[Wiebke](PER) met [Ansgar](PER) at [Radio Husum](ORG) in [Husum](LOC) ."),
)
MAKER = NameMaker(TRAIN)


def mentions(sentence: Sentence) -> list[str]:
    return [sentence.text[e.start_char : e.end_char] for e in sentence.entities]


def around(sentence: Sentence) -> list[str]:
    """What stands before, between and after the mentions."""
    starts = [0, *(e.end_char for e in sentence.entities)]
    ends = [*(e.start_char for e in sentence.entities), len(sentence.text)]
    return [sentence.text[start:end] for start, end in zip(starts, ends, strict=True)]


@settings(max_examples=50)
@given(number=st.integers(0, 2), seed=st.integers(0, 10_000))
def test_all_but_the_names_stays(number: int, seed: int) -> None:
    sentence = TRAIN[number]
    names = draw_names(sentence, MAKER, 1.0, random.Random(seed))
    renamed = rename_sentence(sentence, names)
    assert around(renamed) == around(sentence)
    assert [e.label for e in renamed.entities] == [e.label for e in sentence.entities]
    for old, new in zip(mentions(sentence), mentions(renamed), strict=True):
        assert len(new.split(" ")) == len(old.split(" "))
        assert [word[0].isupper() for word in new.split()] == [word[0].isupper() for word in old.split()]
    assert names == draw_names(sentence, MAKER, 1.0, random.Random(seed))


def test_names_are_new_and_never_the_same_for_long() -> None:
    drawn = [draw_names(TRAIN[0], MAKER, 1.0, random.Random(seed))["Frankfurt"] for seed in range(200)]
    assert len(set(drawn)) > 20
    assert {name[0] for name in drawn} == {"F", "B", "H"}
    assert {name[-1] for name in drawn} == {"t", "n", "m"}


def test_no_mention_is_renamed_at_rate_zero_and_a_share_of_them_in_between() -> None:
    assert draw_names(TRAIN[1], MAKER, 0.0, random.Random(0)) == {}
    shares = [len(draw_names(TRAIN[1], MAKER, 0.5, random.Random(seed))) / 3 for seed in range(400)]
    assert 0.4 < sum(shares) / len(shares) < 0.6


@pytest.mark.parametrize(
    ("mention", "kept"), [("Otto van der Aa", ["van", "der"]), ("NATO", []), ("Möbel & Co.", ["&"])]
)
def test_the_frame_of_a_name_stays(mention: str, kept: list[str]) -> None:
    made = MAKER.make(mention, "PER", random.Random(3))
    assert [word for word in made.split() if word in mention.split()] == kept
    assert mention.isupper() == made.isupper()


def test_words_that_many_names_share_stay() -> None:
    clubs = [annotated(f"[FC {name}](ORG) lost .") for name in ("Halle", "Essen", "Bochum")]
    made = {NameMaker(clubs).make("FC Halle", "ORG", random.Random(seed)) for seed in range(20)}
    assert {name.split()[0] for name in made} == {"FC"}
    assert len(made) > 5


def test_a_label_without_words_keeps_its_names() -> None:
    assert MAKER.make("Nokia", "PROD", random.Random(0)) == "Nokia"


def test_scripts_without_case_and_spaces_are_renamed() -> None:
    maker = NameMaker([annotated("[北京大学](ORG)在[上海](LOC)。"), annotated("[东海银行](ORG)。")])
    made = {maker.make("北京大学", "ORG", random.Random(seed)) for seed in range(50)}
    assert len(made) > 5
    assert all(set(name) <= set("北京大学东海银行") for name in made)


def test_examples_carry_the_same_names_in_both_text_forms() -> None:
    sentence = annotated("[D ' Amico](PER) flew to [Oslo](LOC) .")
    examples = Examples(
        entity=(EntityExample(mention="D'Amico", label="PER"), EntityExample(mention="Rom", label="LOC")),
        context=(context("From [Oslo](LOC) came [D'Amico](PER)."),),
    )
    names = {"D'Amico": "Vera Lund", "Oslo": "Bremsum"}
    renamed = rename_examples(examples, names, frozenset())
    assert [example.mention for example in renamed.entity] == ["Vera Lund", "Rom"]
    assert renamed.context[0] == context("From [Bremsum](LOC) came [Vera Lund](PER).")
    assert rename_sentence(sentence, names).text == "Vera Lund flew to Bremsum ."


def test_a_hidden_name_is_shown_by_no_example() -> None:
    examples = Examples(
        entity=(EntityExample(mention="Oslo", label="LOC"), EntityExample(mention="Rom", label="LOC")),
        context=(context("From [Oslo](LOC) to [Rom](LOC)."), context("To [Rom](LOC).")),
    )
    renamed = rename_examples(examples, {"Oslo": "Bremsum"}, frozenset({"Oslo"}))
    assert [example.mention for example in renamed.entity] == ["Rom"]
    assert renamed.context == (context("To [Rom](LOC)."),)


def context(marked: str) -> ContextExample:
    sentence = annotated(marked)
    return ContextExample(text=sentence.text, entities=sentence.entities)
