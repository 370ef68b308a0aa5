"""The prior's chances of all lines of a sentence sum to one; they count in decoding by their weight."""

from __future__ import annotations

import itertools
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

    tags = 1 + 2 * len(labels)
    transitions = draw((tags + 1, tags)).astype(np.float32)
    for inside in range(2, tags, 2):
        others = [tag for tag in range(tags + 1) if tag not in (inside - 1, inside)]
        transitions[others, inside] = -1e4
    return UnitScores(
        weight=weight,
        labels=labels,
        tags=draw((units, tags)).astype(np.float32),
        transitions=transitions,
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


Mentions = tuple[tuple[int, int, str], ...]


def chances_of_tags(scores: UnitScores) -> dict[Mentions, float]:
    """The CRF's probability of each list of mentions, by counting all tags: first and end unit, and label."""
    weights: dict[Mentions, float] = {}
    units, tags = scores.tags.shape
    for line in itertools.product(range(tags), repeat=units):
        before = (tags, *line[:-1])
        score = sum(scores.transitions[a, b] for a, b in zip(before, line, strict=True))
        score += sum(scores.tags[unit, tag] for unit, tag in enumerate(line))
        firsts = [unit for unit, tag in enumerate(line) if tag % 2]
        ends = [next((e for e in range(f + 1, units) if line[e] != line[f] + 1), units) for f in firsts]
        mentions = tuple(
            (first, end, scores.labels[line[first] // 2]) for first, end in zip(firsts, ends, strict=True)
        )
        weights[mentions] = weights.get(mentions, 0.0) + math.exp(score)
    total = sum(weights.values())
    return {mentions: weight / total for mentions, weight in weights.items()}


@pytest.mark.parametrize("text", ["in New York", "Zoë", "Bern Bochum", "Yo York Yorker"])
@pytest.mark.parametrize("seed", range(3))
def test_a_line_has_the_chance_of_its_tags(monkeypatch: pytest.MonkeyPatch, text: str, seed: int) -> None:
    monkeypatch.setattr(fusion, "_LEAST", 1e-12)
    codec, labels = PromptCodec(tiny_tokenizer()), ("LOC", "PER")
    encoded = codec.text(text)
    scores = random_scores(len(encoded.units), labels, seed=seed)
    chances: dict[Mentions, float] = {}
    for chance, line in lines(line_of(codec, encoded, labels), PriorView(scores)):
        spans = line.spans()
        places = [encoded.unit_range(span.start_char, span.end_char) for span in spans]
        mentions = tuple((*place, span.label) for place, span in zip(places, spans, strict=True) if place)
        chances[mentions] = chances.get(mentions, 0.0) + chance
    expected = chances_of_tags(scores)
    assert chances == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_a_reading_counts_as_much_as_it_is_probable() -> None:
    """Two places share their first token: the place that the prior is sure of decides the second."""
    codec, labels = PromptCodec(tiny_tokenizer()), ("LOC",)
    encoded = codec.text("Bern Bochum")
    first, other = encoded.unit_ids
    assert first[0] == other[0] and first[1] != other[1]
    tags = np.array([[-9.0, 9.0, -9.0], [9.0, -9.0, -9.0]], np.float32)
    scores = UnitScores(weight=1.0, labels=labels, tags=tags, transitions=np.zeros((4, 3), np.float32))
    automaton = line_of(codec, encoded, labels)
    automaton.advance(first[0])
    chances = dict(zip(automaton.allowed(), PriorView(scores).logprobs(automaton), strict=True))
    assert chances[first[1]] > math.log(0.99) and chances[other[1]] < math.log(0.01)


def test_labels_that_the_prior_does_not_know_are_left_to_the_model() -> None:
    codec = PromptCodec(tiny_tokenizer())
    encoded = codec.text("Paris")
    labels = ("DATE", "LOC")
    automaton = TagLineAutomaton(
        encoded, label_grammar(labels, tuple(map(codec.label, labels))), codec.end_id
    )
    view = PriorView(random_scores(1, ("LOC",)))
    assert all(math.isfinite(logprob) for logprob in view.logprobs(automaton))
    for token in encoded.unit_ids[0]:
        automaton.advance(token)
    while len(automaton.allowed()) == 1:
        automaton.advance(automaton.allowed()[0])
    assert view.logprobs(automaton) == pytest.approx([math.log(0.5)] * 2)


def test_labels_that_may_not_be_emitted_have_no_part() -> None:
    scores = random_scores(3, ("DATE", "LOC", "PER"), seed=5)
    kept = scores.of_labels(("LOC", "ORG", "PER"))
    assert kept is not None and kept.labels == ("LOC", "PER")
    alone = {
        mentions: chance
        for mentions, chance in chances_of_tags(scores).items()
        if all(label != "DATE" for _, _, label in mentions)
    }
    whole = sum(alone.values())
    assert chances_of_tags(kept) == pytest.approx({one: chance / whole for one, chance in alone.items()})
    assert scores.of_labels(("ORG",)) is None
    assert scores.of_labels(scores.labels) is scores


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"), "llama")
    yield made
    made.engine.close()


TEXT = "Anna Lee saw Paris and Boris"


def strong(world: World, weight: float) -> UnitScores:
    """Anna Lee is a PER for sure, and Boris; nothing else is anything."""
    units, person = len(world.codec.text(TEXT).units), 1 + 2 * LABELS.index("PER")
    tags = np.full((units, 1 + 2 * len(LABELS)), -9.0, np.float32)
    tags[:, 0] = 0.0
    tags[[0, units - 1], person] = tags[1, person + 1] = 9.0
    transitions = np.zeros((tags.shape[1] + 1, tags.shape[1]), np.float32)
    return UnitScores(weight=weight, labels=LABELS, tags=tags, transitions=transitions)


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
