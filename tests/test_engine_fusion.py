"""The prior's chances of all lines of a sentence sum to one; they count in decoding by their weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.engine import fusion
from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.fusion import PriorView
from retrieveall.engine.protocol import GuessedSpan
from retrieveall.prompting.codec import EncodedText, PromptCodec
from retrieveall.types import UnitScores
from tests.engine_world import World
from tests.models import LABELS, tiny_tokenizer


def random_scores(units: int, labels: tuple[str, ...], *, seed: int = 0, weight: float = 1.0) -> UnitScores:
    draw = np.random.default_rng(seed).standard_normal

    def floats(*shape: int) -> np.ndarray:
        return draw(shape).astype(np.float32)

    return UnitScores(
        weight=weight,
        labels=labels,
        start=floats(units),
        go=floats(units),
        go_first=floats(units),
        go_length=floats(6),
        opens=floats(units, len(labels)),
        closes=floats(units, len(labels)),
        inside=floats(units + 1, len(labels)),
        pairs=floats(units + 1, len(labels)),
        around=floats(len(labels)),
        length=floats(6, len(labels)),
    )


def line_of(codec: PromptCodec, encoded: EncodedText, labels: tuple[str, ...]) -> TagLineAutomaton:
    grammar = label_grammar(labels, tuple(map(codec.label, labels)))
    return TagLineAutomaton(encoded, grammar, codec.end_id)


def lines(automaton: TagLineAutomaton, view: PriorView) -> Iterator[tuple[float, TagLineAutomaton]]:
    """All lines that may be written, with the prior's chance of each."""
    if automaton.finished:
        yield 1.0, automaton
        return
    for token, logprob in zip(automaton.allowed(), view.logprobs(automaton), strict=True):
        ahead = automaton.copy()
        ahead.advance(token)
        for chance, line in lines(ahead, view):
            yield chance * math.exp(logprob), line


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.sampled_from(["New", "York", "Zoë", "!"]), min_size=1, max_size=3),
    labels=st.sampled_from([LABELS, ("PROD", "PE"), ("PER",)]),
    seed=st.integers(0, 9),
)
def test_the_chances_of_all_lines_sum_to_one(words: list[str], labels: tuple[str, ...], seed: int) -> None:
    codec = PromptCodec(tiny_tokenizer())
    encoded = codec.text(" ".join(words))
    automaton = TagLineAutomaton(
        encoded, label_grammar(labels, tuple(map(codec.label, labels))), codec.end_id
    )
    view = PriorView(random_scores(len(encoded.units), labels, seed=seed))
    assert sum(chance for chance, _ in lines(automaton, view)) == pytest.approx(1.0, abs=1e-2)


def test_a_line_has_the_chance_of_its_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "_LEAST", 1e-12)
    codec = PromptCodec(tiny_tokenizer())
    encoded = codec.text("in New York")
    labels = ("LOC", "PER")
    scores = random_scores(3, labels, seed=4)
    automaton = TagLineAutomaton(
        encoded, label_grammar(labels, tuple(map(codec.label, labels))), codec.end_id
    )
    chances = {
        tuple((s.start_char, s.end_char, s.label) for s in line.spans()): chance
        for chance, line in lines(automaton, PriorView(scores))
    }

    def share(odds: float) -> float:
        return 1 / (1 + math.exp(-odds))

    start = [share(float(odds)) for odds in scores.start]
    go_on = share(float(scores.go[2] + scores.go_first[1] + scores.go_length[0]))
    logits = (
        scores.opens[1]
        + scores.closes[2]
        + scores.inside[3]
        - scores.inside[1]
        + scores.pairs[3]
        - scores.pairs[2]
        + scores.around
        + scores.length[1]
    )
    place = float(np.exp(logits[0]) / np.exp(logits).sum())
    assert chances[()] == pytest.approx((1 - start[0]) * (1 - start[1]) * (1 - start[2]), rel=1e-4)
    assert chances[((3, 11, "LOC"),)] == pytest.approx((1 - start[0]) * start[1] * go_on * place, rel=1e-4)


def test_labels_that_the_prior_does_not_know_are_left_to_the_model() -> None:
    codec = PromptCodec(tiny_tokenizer())
    encoded = codec.text("Paris")
    labels = ("DATE", "LOC")
    automaton = TagLineAutomaton(
        encoded, label_grammar(labels, tuple(map(codec.label, labels))), codec.end_id
    )
    view = PriorView(random_scores(1, ("LOC",)))
    assert all(math.isfinite(logprob) for logprob in view.logprobs(automaton))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"), "llama")
    yield made
    made.engine.close()


TEXT = "Anna Lee saw Paris and Boris"


def strong(world: World, weight: float) -> UnitScores:
    """Anna Lee is a PER for sure, and Boris; nothing else is anything."""
    units = len(world.codec.text(TEXT).units)
    zero = np.zeros((units, len(LABELS)), np.float32)
    label = np.array([9.0 if name == "PER" else -9.0 for name in LABELS], np.float32)
    start, go = np.full(units, -9, np.float32), np.full(units, -9, np.float32)
    start[[0, units - 1]], go[1] = 9, 9
    sums = np.zeros((units + 1, len(LABELS)), np.float32)
    return UnitScores(
        weight=weight,
        labels=LABELS,
        start=start,
        go=go,
        go_first=np.zeros(units, np.float32),
        go_length=np.zeros(6, np.float32),
        opens=zero,
        closes=zero,
        inside=sums,
        pairs=sums,
        around=label,
        length=np.zeros((6, len(LABELS)), np.float32),
    )


def test_a_strong_prior_decides_and_one_without_weight_does_not(world: World) -> None:
    row = world.row(TEXT, (("de", 1.0),))
    plain, silent, decided = world.decode(
        [row, replace(row, prior=strong(world, 0.0)), replace(row, prior=strong(world, 10.0))]
    )
    assert silent.spans == plain.spans
    assert [(span.start_char, span.end_char, span.label) for span in decided.spans] == [
        (0, 8, "PER"),
        (23, 28, "PER"),
    ]
    assert all(span.logprob > -1.0 for span in decided.spans), decided


@pytest.mark.parametrize("weight", [0.3, 1.0, 10.0])
def test_drafts_change_nothing(world: World, weight: float) -> None:
    units = len(world.codec.text(TEXT).units)
    scores = random_scores(units, LABELS, seed=2, weight=weight)
    row = replace(world.row(TEXT, (("en", 1.0),)), prior=scores)
    guess = (
        GuessedSpan(first_unit=0, end_unit=2, label="PER"),
        GuessedSpan(first_unit=3, end_unit=4, label="LOC"),
    )
    plain, drafted = world.decode([row, replace(row, guess=guess)])
    assert [s.label for s in plain.spans] == [s.label for s in drafted.spans]
    for one, other in zip(plain.spans, drafted.spans, strict=True):
        assert (one.start_char, one.end_char) == (other.start_char, other.end_char)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-6)


def test_rows_with_and_without_a_prior_do_not_touch_each_other(world: World) -> None:
    plain = world.row(TEXT, (("ru", 1.0),))
    (alone,) = world.decode([plain])
    together = world.decode([replace(plain, prior=strong(world, 10.0)), plain, plain])
    assert together[1].spans == together[2].spans == alone.spans
