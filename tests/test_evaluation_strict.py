from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report

from retrieveall.errors import InputError
from retrieveall.evaluation.score import Score
from retrieveall.evaluation.strict import count_strict
from retrieveall.types import GoldEntity
from tests.annotated import annotated, found, spans_over_tokens

LABELS = ["PER", "LOC", "ORG"]
Spans = list[tuple[int, int, str]]


@st.composite
def spans(draw: st.DrawFn, tokens: int) -> Spans:
    """Half-open, non-overlapping, labelled ranges of tokens."""
    borders = draw(st.lists(st.integers(0, tokens), unique=True, max_size=8).map(sorted))
    return [(a, b, draw(st.sampled_from(LABELS))) for a, b in zip(borders[::2], borders[1::2], strict=False)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], Spans, Spans]:
    words = draw(st.lists(st.sampled_from(["a", "bb", "дом", "山", "e\u0301"]), min_size=1, max_size=9))
    gold = draw(spans(len(words)))
    # Half of the predicted mentions are copied, or random spans would almost never agree.
    copied = [span for span in gold if draw(st.booleans())]
    return words, gold, draw(st.one_of(st.just(copied), spans(len(words))))


def iob2(length: int, mentions: Spans) -> list[str]:
    tags = ["O"] * length
    for first, after, label in mentions:
        tags[first:after] = [f"B-{label}"] + [f"I-{label}"] * (after - first - 1)
    return tags


@settings(max_examples=80, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=6), st.sampled_from([" ", ""]))
def test_same_numbers_as_seqeval(drawn: list[tuple[list[str], Spans, Spans]], joiner: str) -> None:
    gold = [spans_over_tokens(words, wanted, joiner) for words, wanted, _ in drawn]
    predicted = [spans_over_tokens(words, guessed, joiner).entities for words, _, guessed in drawn]
    counts = count_strict(gold, predicted)
    if not counts.labels:  # seqeval's report cannot be made without a mention
        return
    report = classification_report(
        [iob2(len(words), wanted) for words, wanted, _ in drawn],
        [iob2(len(words), guessed) for words, _, guessed in drawn],
        output_dict=True,
        zero_division=0,
    )
    ours = {label: counts.by_label[:, column] for column, label in enumerate(counts.labels)}
    for name, counts_SK in {**ours, "micro avg": counts.per_sentence}.items():
        score = Score.of(counts_SK, resamples=1)
        theirs = report[name]
        assert math.isclose(score.f1, theirs["f1-score"], abs_tol=1e-12)
        assert math.isclose(score.precision, theirs["precision"], abs_tol=1e-12)
        assert math.isclose(score.recall, theirs["recall"], abs_tol=1e-12)
        assert score.support == theirs["support"]
    assert set(ours) == set(report) - {"micro avg", "macro avg", "weighted avg"}
    assert counts.unaligned == 0


def test_counts_by_hand() -> None:
    first = annotated("[Anna Berg](PER) lives in [Oslo](LOC) , [Oslo](LOC) .")
    second = annotated("Nothing here .")
    predicted = [
        [found(first, "Anna", "PER"), found(first, "Oslo", "LOC")],  # border wrong, one right, one missed
        [found(second, "Nothing", "ORG")],  # spurious
    ]
    counts = count_strict([first, second], predicted)
    assert counts.labels == ("LOC", "ORG", "PER")
    assert counts.by_label.tolist() == [
        [[1, 0, 1], [0, 0, 0], [0, 1, 1]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    ]
    score = Score.of(counts.per_sentence)
    assert (score.precision, score.recall, score.f1) == (1 / 3, 1 / 3, 1 / 3)
    assert (score.support, score.predicted, score.sentences) == (3, 3, 2)


def test_white_space_at_the_ends_of_a_mention_does_not_count() -> None:
    sentence = annotated("in [Oslo](LOC) now")
    counts = count_strict([sentence], [[found(sentence, " Oslo ", "LOC")]])
    assert counts.per_sentence.tolist() == [[1, 0, 0]]


def test_mention_inside_a_token_is_wrong_and_counted() -> None:
    sentence = annotated("in [Oslo](LOC) now")
    counts = count_strict([sentence], [[found(sentence, "Osl", "LOC")]])
    assert counts.per_sentence.tolist() == [[0, 1, 1]]
    assert counts.unaligned == 1


def test_gold_inside_a_token_can_only_be_hit_exactly() -> None:
    sentence = annotated("the [Oslo](LOC)born")  # one word, half of which is the mention
    hit, wider = found(sentence, "Oslo", "LOC"), found(sentence, "Osloborn", "LOC")
    assert count_strict([sentence], [[hit]]).per_sentence.tolist() == [[1, 0, 0]]
    assert count_strict([sentence], [[wider]]).per_sentence.tolist() == [[0, 1, 1]]


def test_mention_predicted_twice_is_spurious_once() -> None:
    sentence = annotated("in [Oslo](LOC) now")
    twice = [found(sentence, "Oslo", "LOC"), found(sentence, "Oslo", "LOC")]
    assert count_strict([sentence], [twice]).per_sentence.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize(("start_char", "end_char"), [(0, 99), (-1, 2), (3, 3), (4, 2)])
def test_mention_outside_the_text_is_an_error(start_char: int, end_char: int) -> None:
    sentence = annotated("in [Oslo](LOC) now")
    with pytest.raises(InputError, match=f"'s' .* {start_char}:{end_char}"):
        count_strict([sentence], [[GoldEntity(start_char=start_char, end_char=end_char, label="LOC")]])


def test_lengths_must_agree() -> None:
    with pytest.raises(InputError, match="1 sentences but 2 lists"):
        count_strict([annotated("x")], [[], []])
