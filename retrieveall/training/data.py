"""Training rows: the tagger's own prompt, and the tag line as the target.

The loss counts the decisions of the target: places where the grammar leaves a choice, and there the
allowed tokens alone. So training asks the question that constrained decoding will ask, and nothing
is spent on learning what the grammar knows. Source: own choice.

Axes: B rows, T tokens of the longest row, N decisions of all rows, K most tokens allowed at one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retrieveall.engine.automaton import LabelGrammar, choices_along
from retrieveall.engine.head import padded_ids
from retrieveall.prompting.codec import TAGS, TEXT, EncodedText, PromptCodec
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.training.renaming import NameMaker, draw_names, rename_examples, rename_sentence
from retrieveall.types import ContextExample, EntityExample, Examples, Sentence

_BUCKET_BATCHES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRow:
    """A training sentence in both text forms, with its stored neighbours, strongest first."""

    sentence: Sentence
    detokenised: Sentence
    examples: Examples


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    """How a row becomes a prompt; all chances are our own choice.

    Attributes:
        entity_examples: Most entity examples shown (n of the paper).
        context_examples: Most context examples shown (m of the paper).
        drop_rate: Chance that an example is left out, so that fewer also work.
        drop_all_rate: Chance that all are left out, so that none also works; such rows cost a third.
        detokenised_rate: Chance that the sentence is shown as prose instead of as corpus tokens.
        rename_rate: Chance that a mention is given another name, in the sentence and in its examples.
        hide_rate: Chance that such a name is shown by no example.
        taught_rate: Chance that the sentence itself, or its mentions, stand among its examples.
        budget_tokens: Longest prompt; rows whose sentence alone is longer are skipped and counted.
    """

    entity_examples: int = 8
    context_examples: int = 1
    drop_rate: float = 0.15
    drop_all_rate: float = 0.3
    detokenised_rate: float = 0.3
    rename_rate: float = 0.8
    hide_rate: float = 0.8
    taught_rate: float = 0.15
    budget_tokens: int = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedRow:
    """Token ids of one row, and the sentence that its target tags."""

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    sentence: EncodedText

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.target_ids)


def fits_budget(row: TrainingRow, codec: PromptCodec, config: RenderConfig) -> bool:
    """Says whether both text forms of a row fit the prompt budget, if need be without examples."""
    return all(_fits(form, codec, config) for form in (row.sentence, row.detokenised))


def _fits(sentence: Sentence, codec: PromptCodec, config: RenderConfig) -> bool:
    room = config.budget_tokens - len((*codec.start_ids, *codec.piece(TEXT), *codec.piece(TAGS)))
    return len(codec.text(sentence.text).ids) <= room


def render_row(
    row: TrainingRow,
    codec: PromptCodec,
    config: RenderConfig,
    rng: random.Random,
    maker: NameMaker | None = None,
) -> RenderedRow:
    """Renders a row with examples dropped and the text form drawn at random.

    Args:
        row: The row.
        codec: The base's codec.
        config: The chances.
        rng: Decides everything.
        maker: Where new names come from; None keeps the names, and the examples that were found.

    Raises:
        InputError: The sentence alone exceeds the budget.
    """
    prose = rng.random() < config.detokenised_rate
    sentence, examples = row.detokenised if prose else row.sentence, row.examples
    if maker is not None:
        sentence, examples = _renamed(sentence, examples, codec, config, rng, maker)
    encoded = codec.text(sentence.text)
    examples = drop_examples(examples, config, rng)
    if maker is not None and sentence.entities and rng.random() < config.taught_rate:
        examples = teach_row(sentence, examples, config, rng)
    prompt = build_prompt(codec, encoded, examples, budget_tokens=config.budget_tokens)
    target = (*codec.tags(encoded, sentence.entities), codec.end_id)
    return RenderedRow(prompt_ids=prompt.ids, target_ids=target, sentence=encoded)


def _renamed(
    sentence: Sentence,
    examples: Examples,
    codec: PromptCodec,
    config: RenderConfig,
    rng: random.Random,
    maker: NameMaker,
) -> tuple[Sentence, Examples]:
    """Gives some mentions new names, unless the sentence would then be too long for a prompt."""
    names = draw_names(sentence, maker, config.rename_rate, rng)
    hidden = frozenset(key for key in names if rng.random() < config.hide_rate)
    renamed = rename_sentence(sentence, names)
    if not names or not _fits(renamed, codec, config):
        return sentence, examples
    return renamed, rename_examples(examples, names, hidden)


def drop_examples(examples: Examples, config: RenderConfig, rng: random.Random) -> Examples:
    """Leaves examples out at random, then keeps the strongest n and m."""
    if rng.random() < config.drop_all_rate:
        return Examples()
    entity = [example for example in examples.entity if rng.random() >= config.drop_rate]
    context = [example for example in examples.context if rng.random() >= config.drop_rate]
    return Examples(
        entity=tuple(entity[: config.entity_examples]), context=tuple(context[: config.context_examples])
    )


def teach_row(sentence: Sentence, examples: Examples, config: RenderConfig, rng: random.Random) -> Examples:
    """Shows a row its own answer, as a taught example does: in mentions, in a whole sentence, or in both.

    Retrieval leaves the row itself out, and most names of other rows are new. Without such rows an adapter
    learns that examples know nothing of the names at hand, and goes by its own mind where they do.

    Args:
        sentence: The row as it is shown.
        examples: What else is shown, strongest first; the weakest make room.
        config: Its n and m hold.
        rng: Decides what is shown.
    """
    mentions, whole = rng.choice(((True, False), (False, True), (True, True)))
    own = [
        EntityExample(mention=sentence.text[e.start_char : e.end_char], label=e.label)
        for e in sentence.entities
    ]
    entity = (*(own if mentions else ()), *examples.entity)
    context = (
        *([ContextExample(text=sentence.text, entities=sentence.entities)] if whole else ()),
        *examples.context,
    )
    return Examples(entity=entity[: config.entity_examples], context=context[: config.context_examples])


def epoch_batches(lengths: Sequence[int], batch_rows: int, rng: random.Random) -> Iterator[list[int]]:
    """Yields shuffled batches of row indices whose lengths are close, each row once.

    Args:
        lengths: Tokens of each row.
        batch_rows: Rows of a batch; one batch, anywhere in the order, may be smaller.
        rng: Decides the order.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    bucket = batch_rows * _BUCKET_BATCHES
    for start in range(0, len(order), bucket):
        near = sorted(order[start : start + bucket], key=lengths.__getitem__)
        batches += [near[i : i + batch_rows] for i in range(0, len(near), batch_rows)]
    rng.shuffle(batches)
    yield from batches


@dataclass(frozen=True, kw_only=True, slots=True)
class DecidedRow:
    """A rendered row and the decisions of its target.

    Attributes:
        ids: Prompt and target.
        target_tokens: How many of the last ids are the target.
        steps: Which of the target's tokens are decisions, counted from 0.
        allowed: What the grammar allows at each of them, sorted, at least two ids.
        chosen: Which of the allowed ids the target takes.
    """

    ids: tuple[int, ...]
    target_tokens: int
    steps: tuple[int, ...]
    allowed: tuple[tuple[int, ...], ...]
    chosen: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


def decided_row(row: RenderedRow, grammar: LabelGrammar) -> DecidedRow:
    """Finds the decisions of a row's target, with the labels of its own adapter."""
    choices = choices_along(row.sentence, grammar, row.target_ids)
    steps = tuple(step for step, allowed in enumerate(choices) if len(allowed) > 1)
    return DecidedRow(
        ids=(*row.prompt_ids, *row.target_ids),
        target_tokens=len(row.target_ids),
        steps=steps,
        allowed=tuple(choices[step] for step in steps),
        chosen=tuple(choices[step].index(row.target_ids[step]) for step in steps),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A padded batch; rows are padded on the left, so that all targets end in the last column.

    Attributes:
        ids_BT: Token ids.
        mask_BT: 1 where a token stands.
        positions_BT: Positions that start at 0 with each row's first token.
        columns: How many of the last columns decisions are taken from.
        places_N: Where each decision is taken: row · columns + one of the last columns, from 0.
        allowed_NK: The tokens that the grammar allows there, padded with -1.
        chosen_N: Which of them the target takes.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    positions_BT: Tensor
    columns: int
    places_N: Tensor
    allowed_NK: Tensor
    chosen_N: Tensor

    @property
    def owners(self) -> Tensor:
        """The row of each decision, (N,)."""
        return self.places_N // self.columns


def collate(rows: Sequence[DecidedRow], pad_id: int) -> Batch:
    """Pads rows into one batch; they may be of different adapters."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    columns = max(row.target_tokens for row in rows) + 1
    places: list[int] = []
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row.ids)
        mask[index, width - len(row) :] = 1
        before_first = (index + 1) * columns - 1 - row.target_tokens
        places += [before_first + step for step in row.steps]
    allowed = [one for row in rows for one in row.allowed]
    return Batch(
        ids_BT=ids,
        mask_BT=mask,
        positions_BT=(mask.cumsum(1) - 1).clamp(min=0),
        columns=columns,
        places_N=torch.tensor(places, dtype=torch.long),
        allowed_NK=padded_ids(allowed) if allowed else torch.zeros(0, 1, dtype=torch.long),
        chosen_N=torch.tensor([one for row in rows for one in row.chosen], dtype=torch.long),
    )
