"""The hierarchical prompt of RetrieveAll: entity examples, then context examples, then the sentence.

    x_input = (P_e, se_1 … se_n, P_c, sc_1 … sc_m, P_t, x)        RetrieveAll, CKAL

Training and tagging call the same function. The wording of the markers, the order inside a
granularity (weakest first, so that the strongest stands nearest to the sentence) and the order in
which examples are dropped are our own choices.
"""

from __future__ import annotations

from dataclasses import dataclass

from retrieveall.errors import InputError
from retrieveall.prompting.codec import EXAMPLE, NAMES, TAGS, TEXT, EncodedText, PromptCodec
from retrieveall.types import ContextExample, EntityExample, Examples

DEFAULT_BUDGET_TOKENS = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt ready for the engine.

    Attributes:
        ids: Token ids, up to and with the marker after which the tag line starts.
        examples_dropped: How many examples did not fit into the budget.
    """

    ids: tuple[int, ...]
    examples_dropped: int


def build_prompt(
    codec: PromptCodec,
    sentence: EncodedText,
    examples: Examples,
    *,
    budget_tokens: int = DEFAULT_BUDGET_TOKENS,
) -> Prompt:
    """Renders the prompt of one sentence.

    The sentence is never cut. When the budget is exceeded the weakest entity examples go first,
    then the weakest context examples.

    Args:
        codec: The base model's codec.
        sentence: The sentence to tag.
        examples: What retrieval found, strongest first.
        budget_tokens: Longest prompt allowed, in tokens.

    Raises:
        InputError: The sentence alone is longer than the budget.
    """
    tail = [*codec.piece(TEXT), *sentence.ids, *codec.piece(TAGS)]
    free = budget_tokens - len(tail) - len(codec.start_ids)
    if free < 0:
        raise InputError(
            f"A sentence of {len(tail)} prompt tokens was given, the budget is {budget_tokens}."
            " Split the text into shorter windows, or raise the prompt budget."
        )
    entity = [_entity_ids(codec, example) for example in examples.entity]
    context = [_context_ids(codec, example) for example in examples.context]
    dropped = _drop_to_fit(entity, context, free, header=len(codec.piece(NAMES)))
    ids = list(codec.start_ids)
    if entity:
        ids += codec.piece(NAMES)
    for part in (*reversed(entity), *reversed(context)):
        ids += part
    return Prompt(ids=(*ids, *tail), examples_dropped=dropped)


def _entity_ids(codec: PromptCodec, example: EntityExample) -> list[int]:
    return [*codec.text(example.mention).ids, *codec.label(example.label)]


def _context_ids(codec: PromptCodec, example: ContextExample) -> list[int]:
    encoded = codec.text(example.text)
    return [
        *codec.piece(EXAMPLE),
        *encoded.ids,
        *codec.piece(TAGS),
        *codec.tags(encoded, example.entities),
    ]


def _drop_to_fit(entity: list[list[int]], context: list[list[int]], free: int, *, header: int) -> int:
    """Removes the weakest examples in place until the rest fits; returns how many were removed."""
    dropped = 0

    def used() -> int:
        return sum(map(len, entity)) + sum(map(len, context)) + (header if entity else 0)

    while used() > free:
        (entity or context).pop()
        dropped += 1
    return dropped
