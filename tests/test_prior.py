"""The prior learns the decisions of tag lines; a sentence's scores add up to what it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.prior import PriorWeights, SpanPrior, learn_prior, learning, with_told
from retrieveall.prior.features import shape_of, unit_features
from retrieveall.prior.model import LENGTHS, SCALE, rows_of
from retrieveall.regression import regression
from retrieveall.text.units import split_units
from retrieveall.types import EntityExample, Span, UnitScores
from tests.annotated import annotated

TAGGED = [
    annotated(f"{before} [{name}](PER) {verb} [{place}](LOC) .")
    for before, verb in (("yesterday", "left"), ("then Mrs", "saw"), ("the singer", "went to"))
    for name, place in (("Anna", "Oslo"), ("Boris Lee", "New York"), ("Carla", "Paris"), ("Dmitri", "Rome"))
] + [annotated("then the singer went ."), annotated("the bird left ."), annotated("then it saw the singer .")]
WORDS = st.sampled_from(["Anna", "lee", "New", "York", "the", ".", "São", "東京", "left", "12", "\u0301"])
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)


@pytest.fixture(scope="module")
def prior() -> SpanPrior:
    return SpanPrior(learn_prior(TAGGED), weight=1.0)


def label_logits(scores: UnitScores, first: int, end: int) -> np.ndarray:
    """As `UnitScores` says."""
    total: np.ndarray = (
        scores.opens[first]
        + scores.closes[end - 1]
        + (scores.inside[end] - scores.inside[first])
        + (scores.pairs[end] - scores.pairs[first + 1])
        + scores.around
        + scores.length[min(end - first, LENGTHS) - 1]
    )
    return total


def spans(scores: UnitScores, text: str) -> list[tuple[str, str]]:
    """What the prior alone would tag."""
    units, found, unit = split_units(text), [], 0
    while unit < len(units):
        if scores.start[unit] <= 0:
            unit += 1
            continue
        end = unit + 1
        while end < len(units) and goes_on(scores, unit, end) > 0:
            end += 1
        label = scores.labels[int(label_logits(scores, unit, end).argmax())]
        found.append((text[units[unit].start_char : units[end - 1].end_char], label))
        unit = end
    return found


def goes_on(scores: UnitScores, first: int, unit: int) -> float:
    length = min(unit - first, LENGTHS)
    return float(scores.go[unit] + scores.go_first[first] + scores.go_length[length - 1])


def test_new_sentences_with_known_words_and_new_names(prior: SpanPrior) -> None:
    for text, expected in (
        ("yesterday Carla saw New York .", [("Carla", "PER"), ("New York", "LOC")]),
        ("the singer Elena went to Bern .", [("Elena", "PER"), ("Bern", "LOC")]),
        ("then the singer left .", []),
    ):
        assert spans(prior.score([text])[0], text) == expected


def test_the_same_sentences_give_the_same_weights(prior: SpanPrior) -> None:
    torch.manual_seed(5)
    again = learn_prior(TAGGED)
    assert again.labels == ("LOC", "PER")
    for name in ("start", "go", "label"):
        assert torch.equal(getattr(again, name), getattr(prior.weights, name))


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InputError, match="without any mention"):
        learn_prior([annotated("nothing to see here")])


def test_mentions_that_are_no_runs_of_units_are_passed_over(prior: SpanPrior) -> None:
    half = annotated("[Berlin](LOC)er Luft")
    assert half.entities and torch.equal(learn_prior([*TAGGED]).label, prior.weights.label)
    assert learn_prior([half, *TAGGED]).labels == ("LOC", "PER")


def test_one_label_alone(prior: SpanPrior) -> None:
    people = [replace(one, entities=one.entities[:1]) for one in TAGGED]
    alone = SpanPrior(learn_prior(people), weight=1.0)
    text = "yesterday Anna left ."
    assert alone.weights.labels == ("PER",) and spans(alone.score([text])[0], text) == [("Anna", "PER")]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_a_sentence_has_the_same_scores_among_others(prior: SpanPrior, texts: list[str]) -> None:
    for text, together in zip(texts, prior.score(texts), strict=True):
        alone = prior.score([text])[0]
        for name in ("start", "go", "go_first", "opens", "closes", "inside", "pairs", "around"):
            np.testing.assert_allclose(getattr(together, name), getattr(alone, name), atol=1e-4)
        assert len(alone.start) == len(split_units(text)) == len(alone.inside) - 1


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, data=st.data())
def test_scores_add_up_to_what_was_learned(text: str, data: st.DataObject) -> None:
    """The features of a decision in learning are those whose sums scoring gives, for any weights."""
    units = split_units(text)
    if not units:
        return
    first = data.draw(st.integers(0, len(units) - 1))
    end = data.draw(st.integers(first + 1, len(units)))
    generator = torch.Generator().manual_seed(3)
    weights = PriorWeights(
        labels=("LOC", "PER"),
        start=torch.randn(512, 1, generator=generator),
        go=torch.randn(512, 1, generator=generator),
        label=torch.randn(512, 2, generator=generator),
    )
    scores = SpanPrior(weights, weight=1.0).score([text])[0]
    seen = unit_features([text], [units])
    heads = {name: learning._Decisions(512) for name in ("start", "go", "label")}
    learning._collect(heads, seen, [[(first, end, "PER")]], weights.labels)

    def learned(head: str) -> list[np.ndarray]:
        """The sums of each decision's rows, and its class."""
        (features,), (counts,) = heads[head]._features, heads[head]._counts
        table = getattr(weights, head).numpy() / SCALE
        return [table[rows].sum(axis=0) for rows in np.split(features, np.cumsum(counts)[:-1])]

    outside = [unit for unit in range(len(units)) if not first < unit < end]
    np.testing.assert_allclose(
        [float(one[0]) for one in learned("start")], scores.start[outside], rtol=1e-4, atol=1e-4
    )
    assert heads["start"]._classes[0].tolist() == [int(unit == first) for unit in outside]
    asked = [unit for unit in range(first + 1, end + 1) if unit < len(units)]
    if asked:
        np.testing.assert_allclose(
            [float(one[0]) for one in learned("go")],
            [goes_on(scores, first, unit) for unit in asked],
            rtol=1e-4,
            atol=1e-4,
        )
        assert heads["go"]._classes[0].tolist() == [int(unit < end) for unit in asked]
    np.testing.assert_allclose(learned("label")[0], label_logits(scores, first, end), rtol=1e-4, atol=1e-4)


def test_a_part_is_what_stands_there(prior: SpanPrior) -> None:
    text = "yesterday Anna left Oslo ."
    whole = prior.score([text])[0]
    part = whole.part(1, 4)
    assert len(part.start) == 3 and len(part.inside) == 4
    np.testing.assert_allclose(label_logits(part, 0, 1), label_logits(whole, 1, 2))
    np.testing.assert_allclose(label_logits(part, 2, 3), label_logits(whole, 3, 4))
    assert goes_on(part, 0, 1) == goes_on(whole, 1, 2)


def test_long_corpora_are_learned_from_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_UNITS", 30)
    taken: list[learning.Tagged] = []
    real = learning._mentions

    def noted(one: learning.Tagged, units: Sequence[Span]) -> list[tuple[int, int, str]]:
        taken.append(one)
        return real(one, units)

    monkeypatch.setattr(learning, "_mentions", noted)
    learn_prior(TAGGED)
    assert 0 < len(taken) < len(TAGGED) / 2


def test_shapes() -> None:
    assert [shape_of(word) for word in ("McDonald", "USA", "a1", "2024", "-", "東京都")] == [
        "XxXxx",
        "XX",
        "xd",
        "dd",
        "-",
        "cc",
    ]


def test_rows_are_inside_the_table() -> None:
    hashes = np.array([0, 1, 2**64 - 1], np.uint64)
    assert rows_of(hashes, 7).tolist() == [0, 1, (2**64 - 1) % 7]


def taught(mention: str, label: str) -> EntityExample:
    return EntityExample(mention=mention, label=label, taught=True)


def test_what_was_taught_speaks_in_the_prior(prior: SpanPrior) -> None:
    text = "the bird Anna Kar left ."
    plain = prior.score([text])[0]
    assert spans(plain, text) != [("Anna Kar", "LOC")]
    assert spans(with_told(plain, text, [taught("Anna Kar", "LOC")]), text) == [("Anna Kar", "LOC")]
    assert spans(plain, text) == spans(prior.score([text])[0], text)  # nothing was changed in place


def test_of_taught_mentions_the_longest_counts(prior: SpanPrior) -> None:
    text = "the bird Anna Kar left ."
    plain = prior.score([text])[0]
    both = [taught("Anna", "PER"), taught("Anna Kar", "LOC"), taught("ird", "LOC"), taught("left", "DATE")]
    told = with_told(plain, text, both)
    assert ("Anna Kar", "LOC") in spans(told, text) and ("Anna", "PER") not in spans(told, text)
    assert told.start[1] == plain.start[1]  # a mention that is no run of units changes nothing


def test_examples_that_were_not_taught_say_nothing_more(prior: SpanPrior) -> None:
    plain = prior.score(["Anna left ."])[0]
    assert with_told(plain, "Anna left .", [EntityExample(mention="Anna", label="LOC")]) is plain


def test_few_decisions_are_learned_from_in_small_steps_and_many_in_larger_ones() -> None:
    sizes = [learning.step_examples(count) for count in (0, 800, 40_000, 10_000_000)]
    assert sizes == [16, 16, 40, 64]


def test_the_more_cautious_the_less_is_believed_of_what_was_seen_once() -> None:
    features, classes = torch.tensor([0] * 20 + [1]), torch.tensor([1] * 21)
    counts, scale = np.ones(21, np.int64), torch.ones(21, 1)
    bold, cautious = (
        regression(features, counts, classes, scale, shape=(2, 2), epochs=3, step_examples=4, caution=caution)
        for caution in (0.0, 1.0)
    )
    often, once = (cautious[:, 1] / bold[:, 1]).tolist()
    assert 0 < once < often < 1
