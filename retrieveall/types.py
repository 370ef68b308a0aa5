"""The nouns that every room of the house shares. Plain frozen data, no behaviour beyond checks.

All character offsets count Unicode code points and are half-open: ``text[start_char:end_char]``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "dev", "test"]
Composition = Literal["selection", "mixture", "fusion"]

Floats = NDArray[np.float32]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Span:
    """A half-open character range of one text."""

    start_char: int
    end_char: int


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class GoldEntity:
    """An annotated mention of a corpus sentence: where it stands and what it is."""

    start_char: int
    end_char: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """One row of a corpus.

    Attributes:
        id: Unique within its corpus and language.
        language: BCP-47 code as in PAN-X, such as ``en`` or ``zh-hans``.
        text: The sentence; NFC is not enforced, offsets count the code points that stand here.
        tokens: The corpus's own tokens as ranges of ``text``; the strict scorer counts on them.
        entities: Gold mentions in order of appearance, never overlapping.
        split: ``train``, ``dev`` or ``test``.
    """

    id: str
    language: str
    text: str
    tokens: tuple[Span, ...]
    entities: tuple[GoldEntity, ...]
    split: Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Entity:
    """A mention that the tagger found.

    Attributes:
        score: Product of the model's renormalised probabilities at the branching decisions
            inside the entity (start, end, label), in [0, 1]. Source: own choice.
    """

    start_char: int
    end_char: int
    label: str
    text: str
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityExample:
    """An entity-level example of a prompt: a mention from the training split and its label.

    Attributes:
        taught: It was taught; `sentence_id` is the taught example's id.
    """

    mention: str
    label: str
    similarity: float = 1.0
    sentence_id: str = ""
    taught: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextExample:
    """A context-level example of a prompt: a whole tagged training sentence.

    Attributes:
        taught: It was taught; `sentence_id` is the taught example's id.
    """

    text: str
    entities: tuple[GoldEntity, ...]
    similarity: float = 1.0
    sentence_id: str = ""
    taught: bool = False


OUTSIDE, BEGINS, INSIDE = 0, slice(1, None, 2), slice(2, None, 2)
"""The tags of `UnitScores`: outside of mentions, and of each label a mention's first unit and the others."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UnitScores:
    """What the prior says of a sentence of U units: a linear-chain CRF's scores (see `retrieveall.prior`).

    With L labels there are T = 1 + 2 L tags: `OUTSIDE`, and in turn for each label `BEGINS` and `INSIDE` of
    its mentions. The probability of a sentence's tags is in proportion to the exponential of
    all their scores and transitions.

    Attributes:
        weight: The power to which the probabilities count.
        labels: L labels.
        tags: Score of each tag at each unit ``(U, T)``.
        transitions: Score of each tag before each tag, and of the sentence's start before it
            ``(T + 1, T)``.
    """

    weight: float
    labels: tuple[str, ...]
    tags: Floats
    transitions: Floats

    def of_labels(self, labels: Collection[str]) -> UnitScores | None:
        """Returns the same CRF where only these labels can occur; None where it knows none of them."""
        kept = [place for place, label in enumerate(self.labels) if label in labels]
        if len(kept) == len(self.labels):
            return self
        tags = [OUTSIDE, *(1 + 2 * place + last for place in kept for last in (0, 1))]
        return (
            replace(
                self,
                labels=tuple(self.labels[place] for place in kept),
                tags=self.tags[:, tags],
                transitions=self.transitions[[*tags, -1]][:, tags],
            )
            if kept
            else None
        )

    def part(self, first_unit: int, end_unit: int) -> UnitScores:
        """Returns the scores of some units in a row, as a text is cut into windows."""
        return replace(self, tags=self.tags[first_unit:end_unit])


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """What retrieval found for one sentence, strongest first in each granularity.

    Attributes:
        entity: At most n entity examples that passed the dynamic threshold.
        context: At most m context examples that passed the dynamic threshold.
        prior: What the prior says of the sentence; None where there is none.
    """

    entity: tuple[EntityExample, ...] = ()
    context: tuple[ContextExample, ...] = ()
    prior: UnitScores | None = field(default=None, compare=False)


Shares = tuple[tuple[str, float], ...]  # likely languages and their probabilities, the likeliest first


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Which adapter a sentence goes to.

    Attributes:
        language: The chosen language.
        ranking: ``(language, score)`` best first; scores are comparable within one ranking only.
        margin: Best score minus second best; the best score itself when there is only one.
        known: False when similarity or margin says that the pool has no adapter for this input.
        shares: Of the likely languages, the chosen first; empty where a router has no probabilities.
    """

    language: str
    ranking: tuple[tuple[str, float], ...]
    margin: float
    known: bool = True
    shares: Shares = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedSentence:
    """What the tagger did with one sentence of a document; offsets are the document's.

    Attributes:
        tokens: Tokens that the model read and wrote for it.
    """

    start_char: int
    end_char: int
    language: str
    adapter: str
    composition: Composition
    ranking: tuple[tuple[str, float], ...]
    margin: float
    examples_dropped: int
    tokens: int = 0
    examples: Examples | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedText:
    """The tagger's answer for one text: entities in order of appearance, sentences that cover it."""

    entities: tuple[Entity, ...]
    sentences: tuple[TaggedSentence, ...]
    id: str | None = None
