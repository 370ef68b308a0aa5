"""The prompt shows P_e, P_c, P_t in this order, fits its budget, and never sees the gold labels."""

from __future__ import annotations

import functools
import inspect
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import InputError
from retrieveall.prompting import hierarchical
from retrieveall.prompting.codec import EXAMPLE, NAMES, TAGS, TEXT, PromptCodec
from retrieveall.prompting.hierarchical import Prompt, build_prompt
from retrieveall.training.data import RenderConfig, TrainingRow, render_row
from retrieveall.types import ContextExample, EntityExample, Examples
from tests.annotated import annotated
from tests.models import tiny_tokenizer

SENTENCE = annotated("Today [Anna](PER) flew to [Oslo](LOC).")
EXAMPLES = Examples(
    entity=(
        EntityExample(mention="Anna", label="PER", similarity=0.9),
        EntityExample(mention="Bergen", label="LOC", similarity=0.5),
    ),
    context=(
        ContextExample(text="Bo flew.", entities=annotated("[Bo](PER) flew.").entities, similarity=0.8),
        ContextExample(text="It rains.", entities=(), similarity=0.3),
    ),
)
WORDS = st.lists(
    st.sampled_from(["Anna", "Oslo", "went", "東京", "<PER>", "Tags:", "é"]), min_size=1, max_size=6
)
LABELS = st.sampled_from(["PER", "LOC", "ODD"])


@functools.cache
def codec() -> PromptCodec:
    return PromptCodec(tiny_tokenizer())


def build(examples: Examples, *, text: str = SENTENCE.text, budget: int = 512) -> Prompt:
    return build_prompt(codec(), codec().text(text), examples, budget_tokens=budget)


def read(prompt: Prompt) -> str:
    return codec().spelling(prompt.ids)


@st.composite
def examples(draw: st.DrawFn) -> Examples:
    mentions = draw(st.lists(st.tuples(WORDS, LABELS), max_size=4))
    texts = draw(st.lists(st.tuples(WORDS, LABELS), max_size=3))
    return Examples(
        entity=tuple(EntityExample(mention=" ".join(words), label=label) for words, label in mentions),
        context=tuple(
            ContextExample(
                text=" ".join(words), entities=annotated(f"[{words[0]}]({label})").entities
            )
            for words, label in texts
        ),
    )  # fmt: skip


def test_the_whole_prompt_reads_as_documented() -> None:
    assert read(build(EXAMPLES)) == (
        f"{NAMES} Bergen<LOC> Anna<PER>"
        f"{EXAMPLE} It rains.{TAGS}"
        f"{EXAMPLE} Bo flew.{TAGS} Bo<PER>"
        f"{TEXT} Today Anna flew to Oslo.{TAGS}"
    )


def test_without_examples_there_is_neither_names_nor_example() -> None:
    assert read(build(Examples())) == f"{TEXT} Today Anna flew to Oslo.{TAGS}"


def test_context_alone_has_no_names_header() -> None:
    shown = read(build(Examples(context=EXAMPLES.context)))
    assert shown.startswith(f"{EXAMPLE} It rains.")


def test_a_start_token_opens_the_prompt_and_counts_in_the_budget() -> None:
    starting = PromptCodec(tiny_tokenizer())
    starting.start_ids = (7,)
    encoded = starting.text(SENTENCE.text)
    prompt = build_prompt(starting, encoded, EXAMPLES)
    assert prompt.ids == (7, *build(EXAMPLES).ids)
    alone = len(encoded.ids) + 3
    assert len(build_prompt(starting, encoded, EXAMPLES, budget_tokens=alone).ids) == alone
    with pytest.raises(InputError):
        build_prompt(starting, encoded, EXAMPLES, budget_tokens=alone - 1)


def shown_parts(prompt: Prompt) -> tuple[int, int]:
    """How many entity and context examples a prompt of `EXAMPLES` shows."""
    shown = read(prompt)
    return shown.count("<") - shown.count(" Bo<"), shown.count(EXAMPLE)


def test_the_weakest_entity_goes_first_then_the_weakest_context() -> None:
    order = [(2, 2), (1, 2), (0, 2), (0, 1), (0, 0)]
    seen: list[tuple[int, int]] = []
    for budget in range(len(build(EXAMPLES).ids), len(build(Examples()).ids) - 1, -1):
        prompt = build(EXAMPLES, budget=budget)
        assert prompt.examples_dropped == 4 - sum(shown_parts(prompt))
        if prompt.examples_dropped == 1:
            assert " Anna<PER>" in read(prompt) and "Bergen" not in read(prompt)
        if shown_parts(prompt) == (0, 1):
            assert "Bo flew." in read(prompt)
        if not seen or seen[-1] != shown_parts(prompt):
            seen.append(shown_parts(prompt))
    assert seen == order


@settings(max_examples=40)
@given(shown=examples(), words=WORDS, spare=st.integers(0, 80))
def test_any_prompt_fits_ends_with_the_whole_sentence_and_drops_no_more_than_it_must(
    shown: Examples, words: list[str], spare: int
) -> None:
    text = " ".join(words)
    tail = build(Examples(), text=text).ids
    whole = build(shown, text=text, budget=10_000)
    assert whole.examples_dropped == 0
    prompt = build(shown, text=text, budget=len(tail) + spare)
    assert len(prompt.ids) <= len(tail) + spare
    assert prompt.ids[-len(tail) :] == tail
    entities, contexts = len(shown.entity), len(shown.context)
    kept = entities + contexts - prompt.examples_dropped
    strongest = replace(
        shown, entity=shown.entity[: max(0, kept - contexts)], context=shown.context[: min(kept, contexts)]
    )
    assert prompt.ids == build(strongest, text=text, budget=10_000).ids
    if prompt.examples_dropped:
        more = replace(
            shown,
            entity=shown.entity[: max(0, kept + 1 - contexts)],
            context=shown.context[: min(kept + 1, contexts)],
        )
        assert len(build(more, text=text, budget=10_000).ids) > len(tail) + spare


@settings(max_examples=30)
@given(shown=examples(), words=WORDS)
def test_markers_in_a_prompt_are_ours_alone(shown: Examples, words: list[str]) -> None:
    ids = build(shown, text=" ".join(words), budget=10_000).ids
    counts = {marker: ids.count(codec().piece(marker)[0]) for marker in (NAMES, EXAMPLE, TEXT, TAGS)}
    assert counts == {
        NAMES: int(bool(shown.entity)),
        EXAMPLE: len(shown.context),
        TEXT: 1,
        TAGS: len(shown.context) + 1,
    }


def test_a_sentence_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(InputError, match=r"budget is 5\..*shorter windows"):
        build(Examples(), budget=5)


def test_gold_labels_are_no_argument_of_the_prompt() -> None:
    assert list(inspect.signature(build_prompt).parameters) == [
        "codec",
        "sentence",
        "examples",
        "budget_tokens",
    ]


@settings(max_examples=30)
@given(label=LABELS, seed=st.integers(0, 50))
def test_swapping_the_gold_labels_leaves_the_training_prompt_as_it_is(label: str, seed: int) -> None:
    swapped = replace(SENTENCE, entities=tuple(replace(one, label=label) for one in SENTENCE.entities))
    unlabelled = replace(SENTENCE, entities=())
    prompts = {
        render_row(
            TrainingRow(sentence=sentence, detokenised=sentence, examples=EXAMPLES),
            codec(),
            RenderConfig(),
            random.Random(seed),
        ).prompt_ids
        for sentence in (SENTENCE, swapped, unlabelled)
    }
    assert len(prompts) == 1


def test_the_default_budget_is_the_training_default() -> None:
    assert RenderConfig().budget_tokens == hierarchical.DEFAULT_BUDGET_TOKENS
