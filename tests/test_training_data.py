"""Rows become prompts and targets, batches hold each row once, padding stands on the left."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.engine.automaton import LabelGrammar, TagLineAutomaton, label_grammar
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.training.data import (
    Batch,
    RenderConfig,
    RenderedRow,
    TrainingRow,
    collate,
    decided_row,
    drop_examples,
    epoch_batches,
    fits_budget,
    render_row,
    teach_row,
)
from retrieveall.training.renaming import NameMaker
from retrieveall.types import ContextExample, EntityExample, Examples, Sentence
from tests.annotated import annotated
from tests.models import tiny_tokenizer

EXAMPLES = Examples(
    entity=tuple(EntityExample(mention=f"Name{number}", label="PER") for number in range(12)),
    context=tuple(ContextExample(text=f"Line {number}.", entities=()) for number in range(6)),
)
ROW = TrainingRow(
    sentence=annotated("[Anna](PER) flew , to [Oslo](LOC) ."),
    detokenised=annotated("[Anna](PER) flew, to [Oslo](LOC)."),
    examples=EXAMPLES,
)
KEEP_ALL = RenderConfig(drop_rate=0, drop_all_rate=0, taught_rate=0, entity_examples=99, context_examples=99)


@functools.cache
def codec() -> PromptCodec:
    return PromptCodec(tiny_tokenizer())


@functools.cache
def grammar() -> LabelGrammar:
    labels = ("LOC", "PER")
    return label_grammar(labels, tuple(map(codec().label, labels)))


def plain_row(sentence: Sentence) -> TrainingRow:
    return TrainingRow(sentence=sentence, detokenised=sentence, examples=EXAMPLES)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 500), max_size=300),
    batch_rows=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_an_epoch_holds_each_row_once_in_full_batches(lengths: list[int], batch_rows: int, seed: int) -> None:
    batches = list(epoch_batches(lengths, batch_rows, random.Random(seed)))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert sizes[1:] == [batch_rows] * len(sizes[1:])
    assert batches == list(epoch_batches(lengths, batch_rows, random.Random(seed)))


def test_batches_are_shuffled_and_of_close_lengths() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(1, 400) for _ in range(2000)]
    batches = list(epoch_batches(lengths, 8, rng))
    spreads = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert sum(spreads) / len(spreads) < 40  # batches drawn without a look at lengths: about 310
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in batches]
    assert means != sorted(means)
    assert batches != list(epoch_batches(lengths, 8, random.Random(1)))


@settings(max_examples=40)
@given(seed=st.integers(0, 500), n=st.integers(0, 12), m=st.integers(0, 6))
def test_dropped_examples_leave_the_strongest_in_order(seed: int, n: int, m: int) -> None:
    config = RenderConfig(entity_examples=n, context_examples=m, drop_rate=0.4)
    kept = drop_examples(EXAMPLES, config, random.Random(seed))
    assert len(kept.entity) <= n and len(kept.context) <= m
    assert list(kept.entity) == sorted(kept.entity, key=EXAMPLES.entity.index)
    assert list(kept.context) == sorted(kept.context, key=EXAMPLES.context.index)


def test_without_chances_the_strongest_n_and_m_stay() -> None:
    config = RenderConfig(entity_examples=3, context_examples=1, drop_rate=0, drop_all_rate=0)
    kept = drop_examples(EXAMPLES, config, random.Random(0))
    assert kept == Examples(entity=EXAMPLES.entity[:3], context=EXAMPLES.context[:1])
    everything = replace(config, drop_all_rate=1.0)
    assert drop_examples(EXAMPLES, everything, random.Random(0)) == Examples()


def test_drop_rates_are_the_configured_chances() -> None:
    config = RenderConfig(entity_examples=12, context_examples=6, drop_rate=0.25, drop_all_rate=0.2)
    kept = [drop_examples(EXAMPLES, config, random.Random(seed)) for seed in range(3000)]
    shown = [one for one in kept if one != Examples()]
    assert 1 - len(shown) / len(kept) == pytest.approx(0.2, abs=0.03)
    assert sum(len(one.entity) for one in shown) / (12 * len(shown)) == pytest.approx(0.75, abs=0.01)
    assert sum(len(one.context) for one in shown) / (6 * len(shown)) == pytest.approx(0.75, abs=0.02)


def test_a_row_is_the_taggers_prompt_and_the_tag_line_with_its_end() -> None:
    config = replace(KEEP_ALL, detokenised_rate=0)
    rendered = render_row(ROW, codec(), config, random.Random(0))
    encoded = codec().text(ROW.sentence.text)
    assert rendered.prompt_ids == build_prompt(codec(), encoded, EXAMPLES).ids
    assert codec().spelling(rendered.target_ids[:-1]) == " Anna<PER> Oslo<LOC>"
    assert rendered.target_ids[-1] == codec().end_id
    assert len(rendered) == len(rendered.prompt_ids) + len(rendered.target_ids)


def test_the_prose_form_is_shown_at_its_rate() -> None:
    prose = codec().spelling(codec().text(ROW.detokenised.text).ids)
    tokens = codec().spelling(codec().text(ROW.sentence.text).ids)
    config = RenderConfig(detokenised_rate=0.3, drop_all_rate=1.0)
    rows = [render_row(ROW, codec(), config, random.Random(seed)) for seed in range(1500)]
    shown = [codec().spelling(row.prompt_ids) for row in rows]
    assert all((prose in one) != (tokens in one) for one in shown)
    assert sum(prose in one for one in shown) / len(shown) == pytest.approx(0.3, abs=0.04)
    assert {row.target_ids for row in rows} == {rows[0].target_ids}


def test_rendering_is_decided_by_the_given_randomness_and_keeps_to_the_budget() -> None:
    config = RenderConfig(entity_examples=12, context_examples=6, budget_tokens=60)
    rows = [render_row(ROW, codec(), config, random.Random(seed)) for seed in range(40)]
    assert rows == [render_row(ROW, codec(), config, random.Random(seed)) for seed in range(40)]
    assert len(set(rows)) > 5
    assert max(len(row.prompt_ids) for row in rows) <= 60


LONG = annotated("[Anna](PER) flew" + " far" * 20)


@pytest.mark.parametrize(
    "row", [replace(ROW, sentence=LONG), replace(ROW, detokenised=LONG)], ids=["tokens", "prose"]
)
def test_a_row_fits_only_when_both_text_forms_do(row: TrainingRow) -> None:
    prompt = build_prompt(codec(), codec().text(LONG.text), Examples())
    exact = RenderConfig(budget_tokens=len(prompt.ids))
    assert fits_budget(row, codec(), exact)
    assert not fits_budget(row, codec(), replace(exact, budget_tokens=exact.budget_tokens - 1))
    for seed in range(20):
        render_row(row, codec(), exact, random.Random(seed))  # never too long, whichever form is drawn


TEXTS = st.lists(st.sampled_from(["[Anna](PER)", "[Oslo](LOC)", "went", "Anna", "to", "Oslo"]), max_size=7)


def collated(texts: list[str], seed: int) -> tuple[list[RenderedRow], Batch]:
    rows = [render_row(plain_row(annotated(text)), codec(), KEEP_ALL, random.Random(seed)) for text in texts]
    return rows, collate([decided_row(row, grammar()) for row in rows], 1)


@settings(max_examples=30)
@given(texts=st.lists(TEXTS.map(" ".join), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_a_batch_can_be_read_back_row_by_row(texts: list[str], seed: int) -> None:
    rows, batch = collated(texts, seed)
    width = max(map(len, rows))
    assert batch.ids_BT.shape == batch.mask_BT.shape == batch.positions_BT.shape == (len(rows), width)
    for index, row in enumerate(rows):
        pad = width - len(row)
        assert batch.ids_BT[index].tolist() == [1] * pad + [*row.prompt_ids, *row.target_ids]
        assert batch.mask_BT[index].tolist() == [0] * pad + [1] * len(row)
        assert batch.positions_BT[index, pad:].tolist() == list(range(len(row)))


@settings(max_examples=30)
@given(texts=st.lists(TEXTS.map(" ".join), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_decisions_stand_before_their_tokens_and_the_rest_is_forced(texts: list[str], seed: int) -> None:
    rows, batch = collated(texts, seed)
    width = batch.ids_BT.shape[1]
    at: dict[int, dict[int, int]] = {index: {} for index in range(len(rows))}
    for place, allowed, chosen in zip(batch.places_N, batch.allowed_NK, batch.chosen_N, strict=True):
        owner, column = divmod(int(place), batch.columns)
        follower = width - batch.columns + column + 1
        assert int(batch.ids_BT[owner, follower]) == int(allowed[chosen])
        assert int((allowed >= 0).sum()) > 1
        at[owner][follower] = int(allowed[chosen])
    for index, row in enumerate(rows):
        automaton = TagLineAutomaton(row.sentence, grammar(), codec().end_id)
        first = width - len(row.target_ids)
        for step, token in enumerate(row.target_ids):
            assert (len(automaton.allowed()) > 1) == (first + step in at[index])
            automaton.advance(token)
        assert automaton.finished
    assert batch.owners.tolist() == [index for index, steps in at.items() for _ in steps]


def test_a_renamed_row_is_a_row_of_other_names() -> None:
    config = replace(KEEP_ALL, rename_rate=1.0, hide_rate=0.0, detokenised_rate=0.0)
    maker = NameMaker([ROW.sentence, annotated("[Berta](PER) saw [Turku](LOC) .")])
    targets = set()
    for seed in range(30):
        rendered = render_row(ROW, codec(), config, random.Random(seed), maker)
        found = re.fullmatch(r" (\w+)<PER> (\w+)<LOC>", codec().spelling(rendered.target_ids[:-1]))
        assert found is not None
        person, place = found.groups()
        assert codec().spelling(rendered.sentence.ids) == f" {person} flew , to {place} ."
        targets.add(rendered.target_ids)
    assert len(targets) > 5


def test_a_taught_row_shows_its_own_answer_first_and_within_the_limits() -> None:
    config = RenderConfig(entity_examples=3, context_examples=1)
    sentence = ROW.sentence
    own = [("Anna", "PER"), ("Oslo", "LOC")]
    kinds = set()
    for seed in range(30):
        shown = teach_row(sentence, EXAMPLES, config, random.Random(seed))
        named = [(e.mention, e.label) for e in shown.entity[:2]] == own
        whole = shown.context[0].text == sentence.text and shown.context[0].entities == sentence.entities
        kinds.add((named, whole))
        others = shown.entity[2:] if named else shown.entity
        assert others == EXAMPLES.entity[: 3 - 2 * named] and len(shown.context) == 1
    assert kinds == {(True, False), (False, True), (True, True)}


def test_rows_are_taught_in_training_alone_and_as_often_as_asked() -> None:
    config = replace(KEEP_ALL, rename_rate=0.0, detokenised_rate=0.0, taught_rate=0.3)
    maker = NameMaker([ROW.sentence])
    plain = render_row(ROW, codec(), config, random.Random(0)).prompt_ids
    rows = [render_row(ROW, codec(), config, random.Random(seed), maker).prompt_ids for seed in range(400)]
    taught = sum(len(row) > len(plain) for row in rows)
    assert 80 < taught < 160
    assert all(
        render_row(ROW, codec(), config, random.Random(seed)).prompt_ids == plain for seed in range(50)
    )


def test_a_name_that_would_not_fit_the_budget_is_not_given() -> None:
    row = plain_row(annotated("[Al](PER) left ."))
    maker = NameMaker([annotated("[" + "Ba" * 400 + "](PER) left .")])
    config = replace(KEEP_ALL, rename_rate=1.0, budget_tokens=40)
    rendered = render_row(row, codec(), config, random.Random(0), maker)
    assert rendered.sentence == codec().text(row.sentence.text)
