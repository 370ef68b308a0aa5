"""The prior learns the tags of units; a sentence's scores add up to what it learned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.engine.chain import Chain
from retrieveall.errors import InputError
from retrieveall.prior import PriorWeights, SpanPrior, crf, learn_prior, learning, mixed, with_told
from retrieveall.prior.features import NEAR, shape_of, unit_features
from retrieveall.prior.model import rows_of, unit_rows
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


def test_a_language_that_goes_on_from_others_knows_what_they_know() -> None:
    own = [annotated("se fue [Ana](PER) ."), annotated("vino [Luis](PER) ."), annotated("en [Lima](LOC) .")]
    start = learn_prior([*TAGGED, *own])
    alone, shared = (SpanPrior(learn_prior(own, start=begin), weight=1.0) for begin in (None, start))
    text = "yesterday Carla went to Rome ."
    (by_itself,), (together,) = alone.score([text]), shared.score([text])
    assert spans(together, text) == [("Carla", "PER"), ("Rome", "LOC")] != spans(by_itself, text)
    assert len(shared.weights.table) == len(start.table)
    assert torch.equal(start.table, learn_prior([*TAGGED, *own]).table)  # it was not changed


def test_labels_that_were_not_shared_are_learned_too() -> None:
    own = [annotated("vino [Luis](PER) el [lunes](DATE) ."), annotated("[lunes](DATE) en [Lima](LOC) .")]
    learned = learn_prior(own * 3, start=learn_prior(TAGGED))
    assert learned.labels == ("DATE", "LOC", "PER")
    (said,) = SpanPrior(learned, weight=1.0).score([own[0].text])
    assert spans(said, own[0].text) == [("Luis", "PER"), ("lunes", "DATE")]
    with pytest.raises(InputError, match="without any mention"):
        learn_prior([annotated("nada .")], start=learned)


def test_characters_of_scripts_without_spaces_see_the_runs_around_them() -> None:
    texts = ["東京 to", "Anna ไทย"]
    units = [split_units(text) for text in texts]
    runs = unit_features(texts, units).runs
    # of two units: each character's own run and the one that touches it, where these stay inside
    assert runs.counts.tolist() == [3, 3, 0, 0, 5, 5, 4]
    again, longer = (unit_features([text], [split_units(text)]).runs for text in ("東京 to", "東京都 to"))
    assert set(again.hashes.tolist()) <= {*runs.hashes.tolist()}
    assert len({*again.hashes.tolist()} & {*longer.hashes.tolist()}) > 0
    learned = learn_prior(
        [annotated("[東京](LOC)は大きい"), annotated("大[京都](LOC)は東"), annotated("[アン](PER)は京")]
    )
    assert spans(SpanPrior(learned, weight=1.0).score(["東京は大きい"])[0], "東京は大きい") == [
        ("東京", "LOC")
    ]


def spans(scores: UnitScores, text: str) -> list[tuple[str, str]]:
    """What the prior alone would tag, one decision after the other."""
    units, chain = split_units(text), Chain(scores)
    found: list[tuple[str, str]] = []
    unit, tag = 0, chain.start
    while True:
        starts, none = chain.starts(unit, tag)
        if not len(starts) or none > starts.max():
            return found
        first = unit + int(starts.argmax())
        before, unit = (tag if first == unit else 0), first + 1
        goes_on, ends = chain.ends(first, before, unit)
        while goes_on > 0.5:
            unit += 1
            goes_on, ends = chain.ends(first, before, unit)
        label = scores.labels[int(ends.argmax())]
        found.append((text[units[first].start_char : units[unit - 1].end_char], label))
        tag = chain.tag_of(label, unit - first)


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
    assert torch.equal(again.table, prior.weights.table)
    assert torch.equal(again.transitions, prior.weights.transitions)


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InputError, match="without any mention"):
        learn_prior([annotated("nothing to see here")])


def test_mentions_that_are_no_runs_of_units_are_passed_over(prior: SpanPrior) -> None:
    half = annotated("[Berlin](LOC)er Luft")
    assert half.entities and prior.weights.labels == ("LOC", "PER")
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
        np.testing.assert_allclose(together.tags, alone.tags, atol=1e-4)
        assert alone.tags.shape == (len(split_units(text)), 5)


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_scores_add_up_to_what_was_learned(text: str) -> None:
    """The features of a unit in learning are those whose sums scoring gives, for any weights."""
    units = split_units(text)
    table = torch.randn(512, 5, generator=torch.Generator().manual_seed(3))
    weights = PriorWeights(labels=("LOC", "PER"), table=table, transitions=torch.zeros(6, 5))
    rows, counts = unit_rows(unit_features([text], [units]), 512)
    learned = [table.numpy()[some].sum(axis=0) for some in np.split(rows, np.cumsum(counts)[:-1])]
    (scores,) = SpanPrior(weights, weight=1.0).score([text])
    assert len(counts) == len(units) == len(scores.tags)
    if units:
        np.testing.assert_allclose(scores.tags, learned, rtol=1e-4, atol=1e-3)


def test_words_far_away_have_no_say(prior: SpanPrior) -> None:
    text = "then Anna left Oslo ."
    far = " ".join(["the bird left ."] * (NEAR + 4))
    (short,), (long,) = prior.score([f"{text} {far}"]), prior.score([f"{text} {far} {far} Carla saw Rome ."])
    np.testing.assert_array_equal(short.tags[:5], long.tags[:5])


def test_a_part_is_what_stands_there(prior: SpanPrior) -> None:
    whole = prior.score(["yesterday Anna left Oslo ."])[0]
    part = whole.part(1, 4)
    np.testing.assert_array_equal(part.tags, whole.tags[1:4])
    assert part.transitions is whole.transitions


def test_inside_follows_its_own_label_alone(prior: SpanPrior) -> None:
    moves = prior.weights.transitions
    allowed = {(before, after) for before, after in (moves > -100).nonzero().tolist() if after in (2, 4)}
    assert allowed == {(1, 2), (2, 2), (3, 4), (4, 4)}


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
    assert told.tags[1].tolist() == plain.tags[1].tolist()  # no run of units: changes nothing
    assert (told.tags[4] > plain.tags[4])[[1, 3]].all()  # of a label that is unknown the place counts


def test_examples_that_were_not_taught_say_nothing_more(prior: SpanPrior) -> None:
    plain = prior.score(["Anna left ."])[0]
    assert with_told(plain, "Anna left .", [EntityExample(mention="Anna", label="LOC")]) is plain


def random_chain(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, transitions and tags of some sentences with two labels; inside may follow its own alone."""
    generator = torch.Generator().manual_seed(sum(lengths))
    moves = torch.randn(6, 5, generator=generator, dtype=torch.float64) + learning._transitions(2)
    scores = torch.randn(sum(lengths), 5, generator=generator, dtype=torch.float64)
    return scores, moves, torch.randint(0, 2, (sum(lengths),), generator=generator)


@pytest.mark.parametrize("lengths", [[1], [4], [3, 1, 5]])
def test_the_gradient_is_that_of_the_likelihood(lengths: list[int]) -> None:
    """Against automatic differentiation of the log-likelihood, all tags of each sentence counted."""
    scores, moves, tags = random_chain(lengths)
    scores.requires_grad_()
    moves.requires_grad_()
    loss, first = torch.zeros((), dtype=torch.float64), 0
    for length in lengths:
        own, right = scores[first : first + length], tags[first : first + length].tolist()

        def of(line: Sequence[int], own: torch.Tensor = own) -> torch.Tensor:
            before = [5, *line[:-1]]
            return own[range(len(line)), list(line)].sum() + moves[before, list(line)].sum()

        every = [of(line) for line in itertools.product(range(5), repeat=length)]
        loss, first = loss + torch.logsumexp(torch.stack(every), 0) - of(right), first + length
    by_scores, by_moves = torch.autograd.grad(loss, (scores, moves))

    counts = np.array(lengths)
    shares, sums = crf.expected(scores.detach().float(), counts, moves.detach().float())
    shares[torch.arange(len(tags)), tags] -= 1.0
    torch.testing.assert_close(shares, by_scores.float(), atol=1e-4, rtol=1e-4)
    found = sums - crf.observed(tags, counts, 5)
    torch.testing.assert_close(found, by_moves.float(), atol=1e-4, rtol=1e-4)


def test_few_units_are_passed_over_more_often_and_in_smaller_steps() -> None:
    assert [crf.passes_over(units) for units in (0, 900, 8_000, 400_000)] == [20, 20, 12, 10]
    assert [crf.step_units(units) for units in (0, 900, 40_000, 400_000)] == [16, 16, 40, 64]


def test_tables_of_many_labels_have_fewer_rows() -> None:
    sizes = [learning.rows_for(units, tags) for units, tags in ((10, 7), (9_000, 7), (400_000, 7))]
    assert sizes == [1 << 14, 1 << 18, 1 << 20]
    assert learning.rows_for(400_000, 37) == 1 << 18


def test_priors_of_likely_languages_are_mixed_by_their_probabilities(prior: SpanPrior) -> None:
    text = "Anna saw Oslo ."
    (one,) = prior.score([text])
    other = replace(one, tags=one.tags + 3, weight=2.0)
    whole = mixed([(one, 0.75), (other, 0.25)])
    np.testing.assert_allclose(whole.tags, one.tags + 0.75, rtol=1e-5)
    np.testing.assert_allclose(whole.transitions, one.transitions)
    assert whole.weight == pytest.approx(1.25)
    assert mixed([(one, 0.5), (replace(other, labels=("ORG", "PER")), 0.5)]) is one


def test_brackets_and_quotation_marks_change_no_word() -> None:
    """Corpora write them apart and people do not: the features of the words between are the same."""
    texts = [("(Anna)", "( Anna )"), ("'''Anna Lee'''", "' ' ' Anna Lee ' ' '"), ("a, b", "a , b")]
    for written, tokens in texts:
        one, other = (unit_features([text], [split_units(text)]) for text in (written, tokens))
        np.testing.assert_array_equal(one.full.hashes, other.full.hashes)
    joined, split = (unit_features([text], [split_units(text)]) for text in ("O'Brien", "O ' Brien"))
    assert (joined.full.hashes != split.full.hashes).any()
