"""The tag line's grammar: whatever the codec can write is read back, whatever is walked is valid."""

from __future__ import annotations

import itertools
import math
import pickle
import random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar, longest_line
from retrieveall.errors import ConfigError, InputError
from retrieveall.prompting.codec import EncodedText, PromptCodec
from retrieveall.types import GoldEntity, Span
from tests.models import LABELS, tiny_tokenizer

SINGLE = LABELS  # markers of one token each
SPELLED = ("PROD", "EVENT", "PE")  # markers of several tokens that user text may spell, too

words = st.sampled_from(
    ["Paris", "paris", "New", "York", "New York", "São", "東京", "<", "PER", ">", "<PROD>", "a"]
)
sentences = st.lists(words, max_size=14).flatmap(
    lambda parts: st.sampled_from([" ", ""]).map(lambda glue: glue.join(parts))
)


@pytest.fixture(scope="module")
def codec() -> PromptCodec:
    return PromptCodec(tiny_tokenizer())


def automaton(codec: PromptCodec, encoded: EncodedText, labels: tuple[str, ...]) -> TagLineAutomaton:
    grammar = label_grammar(labels, tuple(map(codec.label, labels)))
    return TagLineAutomaton(encoded, grammar, codec.end_id)


def first_occurrence(encoded: EncodedText, cursor: int, wanted: list[int]) -> tuple[int, int] | None:
    """The mention rule, spelled out: the next run of whole units with these tokens."""
    for first in range(cursor, len(encoded.units)):
        ids: list[int] = []
        for end in range(first, len(encoded.units)):
            ids += encoded.unit_ids[end]
            if ids == wanted:
                return first, end + 1
    return None


def expressible(encoded: EncodedText, runs: list[tuple[int, int]]) -> bool:
    cursor = 0
    for first, end in runs:
        ids = [token for unit in encoded.unit_ids[first:end] for token in unit]
        if first_occurrence(encoded, cursor, ids) != (first, end):
            return False
        cursor = end
    return True


def gold(encoded: EncodedText, runs: list[tuple[int, int]], labels: list[str]) -> list[GoldEntity]:
    return [
        GoldEntity(
            start_char=encoded.units[first].start_char, end_char=encoded.units[end - 1].end_char, label=label
        )
        for (first, end), label in zip(runs, labels, strict=True)
    ]


@st.composite
def runs_of(draw: st.DrawFn, units: int) -> list[tuple[int, int]]:
    borders = sorted(draw(st.sets(st.integers(0, units), max_size=8))) if units else []
    pairs = list(itertools.pairwise(borders))
    return [pair for pair in pairs if draw(st.booleans())]


def read(walker: TagLineAutomaton, line: list[int]) -> list[tuple[int, int, str]]:
    for token in line:
        walker.advance(token)
    assert walker.finished
    return [(span.start_char, span.end_char, span.label) for span in walker.spans()]


@given(text=sentences, data=st.data())
@settings(max_examples=120, deadline=None)
def test_expressible_lines_round_trip(codec: PromptCodec, text: str, data: st.DataObject) -> None:
    encoded = codec.text(text)
    runs = data.draw(runs_of(len(encoded.units)))
    assume(expressible(encoded, runs))
    entities = gold(encoded, runs, [data.draw(st.sampled_from(SINGLE)) for _ in runs])
    line = [*codec.tags(encoded, entities), codec.end_id]
    found = read(automaton(codec, encoded, SINGLE), line)
    assert found == [(entity.start_char, entity.end_char, entity.label) for entity in entities]


@given(text=sentences, data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_gold_line_is_accepted_and_keeps_surface_and_label(
    codec: PromptCodec, text: str, data: st.DataObject
) -> None:
    """Mentions whose place cannot be expressed move to an earlier occurrence, nothing else changes."""
    encoded = codec.text(text)
    runs = data.draw(runs_of(len(encoded.units)))
    entities = gold(encoded, runs, [data.draw(st.sampled_from(SINGLE)) for _ in runs])
    line = [*codec.tags(encoded, entities), codec.end_id]
    found = read(automaton(codec, encoded, SINGLE), line)
    assert [label for _, _, label in found] == [entity.label for entity in entities]
    assert [ids_of(encoded, start, end) for start, end, _ in found] == [
        ids_of(encoded, entity.start_char, entity.end_char) for entity in entities
    ]


def ids_of(encoded: EncodedText, start_char: int, end_char: int) -> list[int]:
    run = encoded.unit_range(start_char, end_char)
    assert run is not None
    return [token for unit in encoded.unit_ids[run[0] : run[1]] for token in unit]


@given(text=sentences, labels=st.sampled_from([SINGLE, SPELLED, ("PER", "PROD")]), seed=st.integers(0, 2**32))
@example(text="<PROD><PROD><PROD><PROD><PROD><PROD><PROD><PROD>", labels=SPELLED, seed=1)
@settings(max_examples=120, deadline=None)
def test_random_walks_end_in_valid_spans(
    codec: PromptCodec, text: str, labels: tuple[str, ...], seed: int
) -> None:
    encoded = codec.text(text)
    walker = automaton(codec, encoded, labels)
    chance = random.Random(seed)
    line: list[int] = []
    longest = len(encoded.ids) + len(encoded.units) * max(len(codec.label(label)) for label in labels) + 1
    while not walker.finished:
        token = chance.choice(walker.allowed())
        walker.advance(token)
        line.append(token)
    assert len(line) <= longest
    assert line[-1] == codec.end_id
    spans = walker.spans()
    entities = [GoldEntity(start_char=s.start_char, end_char=s.end_char, label=s.label) for s in spans]
    assert [*codec.tags(encoded, entities), codec.end_id] == line  # the spans say exactly what was emitted
    borders = [border for span in spans for border in (span.start_char, span.end_char)]
    assert borders == sorted(borders)
    assert all(span.label in labels for span in spans)
    if labels == SINGLE:  # no reading clashes, so each mention stands at its next occurrence
        assert expressible(encoded, [encoded.unit_range(s.start_char, s.end_char) or (0, 0) for s in spans])


@given(text=sentences, data=st.data())
@settings(max_examples=80, deadline=None)
def test_labels_spelled_in_the_text_lose_no_line(codec: PromptCodec, text: str, data: st.DataObject) -> None:
    encoded = codec.text(text)
    runs = data.draw(runs_of(len(encoded.units)))
    entities = gold(encoded, runs, [data.draw(st.sampled_from(SPELLED)) for _ in runs])
    line = [*codec.tags(encoded, entities), codec.end_id]
    found = read(automaton(codec, encoded, SPELLED), line)
    reread = [GoldEntity(start_char=start, end_char=end, label=label) for start, end, label in found]
    assert [*codec.tags(encoded, reread), codec.end_id] == line


def test_a_mention_stands_for_its_next_occurrence(codec: PromptCodec) -> None:
    encoded = codec.text("in Paris , Paris Hilton met Paris")
    paris = encoded.unit_ids[1]
    line = [
        *paris,
        *codec.label("LOC"),
        *paris,
        *codec.label("PER"),
        *paris,
        *codec.label("ORG"),
        codec.end_id,
    ]
    assert read(automaton(codec, encoded, SINGLE), line) == [(3, 8, "LOC"), (11, 16, "PER"), (28, 33, "ORG")]


def test_later_units_decide_between_places(codec: PromptCodec) -> None:
    encoded = codec.text("in Paris , Paris Hilton")
    line = [*encoded.unit_ids[3], *encoded.unit_ids[4], *codec.label("PER"), codec.end_id]
    assert read(automaton(codec, encoded, SINGLE), line) == [(11, 23, "PER")]


def test_a_label_that_the_text_spells_is_read_both_ways(codec: PromptCodec) -> None:
    encoded = codec.text("Paris<PROD>")
    mention = [token for unit in encoded.unit_ids for token in unit]
    marker = list(codec.label("PROD"))
    short = [*encoded.unit_ids[0], *marker, codec.end_id]
    whole = [*mention, *marker, codec.end_id]
    assert read(automaton(codec, encoded, SPELLED), short) == [(0, 5, "PROD")]
    assert read(automaton(codec, encoded, SPELLED), whole) == [(0, 11, "PROD")]


def test_readings_stay_few_where_text_is_nothing_but_markers(codec: PromptCodec) -> None:
    encoded = codec.text("<PROD>" * 100)
    walker = automaton(codec, encoded, SPELLED)
    for token in encoded.ids[:200]:
        walker.advance(token)
    assert len(walker.readings) <= 4 * len(encoded.ids)


def test_logprob_sums_what_was_decided_inside_the_entity(codec: PromptCodec) -> None:
    encoded = codec.text("Paris a York")
    walker = automaton(codec, encoded, SINGLE)
    line = [
        *encoded.unit_ids[0],
        *codec.label("LOC"),
        *encoded.unit_ids[2],
        *codec.label("PER"),
        codec.end_id,
    ]
    for token in line:
        walker.advance(token, 0.0 if len(walker.allowed()) == 1 else math.log(1 / len(walker.allowed())))
    first, second = walker.spans()
    assert first.logprob == pytest.approx(
        math.log(1 / 4) + math.log(1 / 4)
    )  # 3 units or end; 1 unit or 3 labels
    assert second.logprob == pytest.approx(math.log(1 / 3) + math.log(1 / 3))  # 2 units or end; 3 labels


def test_an_empty_sentence_is_forced_to_its_end(codec: PromptCodec) -> None:
    walker = automaton(codec, codec.text("  "), SINGLE)
    assert walker.forced() == [codec.end_id]
    assert walker.finished
    assert walker.spans() == ()


def test_forced_stops_at_the_first_choice(codec: PromptCodec) -> None:
    encoded = EncodedText(
        units=(Span(start_char=0, end_char=3), Span(start_char=4, end_char=5)), unit_ids=((20, 21, 22), (30,))
    )
    walker = TagLineAutomaton(encoded, label_grammar(("X",), ((90, 91),)), end_id=0)
    assert walker.allowed() == (0, 20, 30)
    walker.advance(20)
    assert walker.forced() == [21, 22]
    assert walker.allowed() == (30, 90)
    walker.advance(30)
    assert walker.forced() == [90, 91, 0]
    assert [(span.start_char, span.end_char) for span in walker.spans()] == [(0, 5)]


def test_a_token_that_is_not_allowed_is_refused(codec: PromptCodec) -> None:
    walker = automaton(codec, codec.text("Paris"), SINGLE)
    with pytest.raises(ValueError, match="the grammar allows"):
        walker.advance(codec.label("LOC")[0])


@pytest.mark.parametrize(
    "ids", [((5, 6), (5, 6, 7)), ((5, 6), (5, 6))], ids=["one is the beginning of another", "equal"]
)
def test_markers_that_cannot_be_told_apart_are_refused(ids: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ConfigError, match="Rename a label") as caught:
        label_grammar(("A", "B"), ids)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_no_labels_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        label_grammar((), ())


@given(seed=st.integers(0, 10_000))
def test_no_line_is_longer_than_the_longest(codec: PromptCodec, seed: int) -> None:
    """Random walks that prefer tokens to the end, and the line that has every unit as a mention."""
    encoded, rng = codec.text("Paris New York São"), random.Random(seed)
    most = longest_line(encoded, [codec.label(label) for label in SPELLED])
    walker = automaton(codec, encoded, SPELLED)
    while not walker.finished:
        walker.advance(
            rng.choice([token for token in walker.allowed() if token != codec.end_id] or [codec.end_id])
        )
    assert walker.steps <= most
    longest = max((codec.label(label) for label in SPELLED), key=len)
    line = [token for unit in encoded.unit_ids for token in (*unit, *longest)]
    assert len(line) + 1 == most
