"""Strict span and type counts: the main metric.

A predicted mention is right when the corpus has a mention of the same label over exactly the same
tokens. These are the numbers of conlleval and seqeval, counted without going through tags.

How a character range becomes a place:
  1. White space at its ends is dropped (a tagger that returns ``"Paris "`` meant ``Paris``).
  2. If it now starts where a token starts and ends where a token ends, its place is the range of
     token numbers.
  3. Otherwise it stays a character range. It is counted as it stands, which is wrong unless the
     corpus holds a mention with these very characters. Nothing is widened to the next token.
A mention predicted twice is right once and spurious once. Source of 1-3: own choice.

Axes: S sentences, L labels, K = 3 (tp, fp, fn).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import Counts
from retrieveall.types import Entity, GoldEntity, Sentence

Mention = Entity | GoldEntity
Predictions = Sequence[Sequence[Mention]]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a mention stands and what it is called; two equal places are one hit.

    Attributes:
        on_tokens: True when start and end are token numbers, False when they are characters.
        start: First token or character.
        end: One past the last.
        label: The mention's label.
    """

    on_tokens: bool
    start: int
    end: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StrictCounts:
    """Counts of one language.

    Attributes:
        labels: L labels, sorted: all that occur in gold or predictions.
        by_label: ``(S, L, 3)`` tp, fp, fn.
        unaligned: Predicted mentions that start or end inside a token.
    """

    labels: tuple[str, ...]
    by_label: Counts
    unaligned: int

    @property
    def per_sentence(self) -> Counts:
        """``(S, 3)`` counts over all labels."""
        return np.asarray(self.by_label.sum(axis=1), dtype=np.int64)


def places(sentence: Sentence, mentions: Sequence[Mention]) -> list[Place]:
    """Maps mentions from characters to tokens of their sentence.

    Args:
        sentence: Text and tokens that the mentions' offsets belong to.
        mentions: Gold or predicted mentions, in any order.

    Returns:
        One place per mention, in the same order.

    Raises:
        InputError: A mention is empty or reaches outside the text.
    """
    starts = {token.start_char: number for number, token in enumerate(sentence.tokens)}
    ends = {token.end_char: number + 1 for number, token in enumerate(sentence.tokens)}
    found = []
    for mention in mentions:
        start_char, end_char = _trimmed(sentence, mention)
        first, after = starts.get(start_char), ends.get(end_char)
        if first is None or after is None:
            found.append(Place(False, start_char, end_char, mention.label))
        else:
            found.append(Place(True, first, after, mention.label))
    return found


def count_strict(gold: Sequence[Sentence], predicted: Predictions) -> StrictCounts:
    """Counts hits, spurious and missed mentions per sentence and label.

    Args:
        gold: S sentences with their gold mentions.
        predicted: S lists of mentions, offsets in the text of the sentence at the same position.

    Raises:
        InputError: The two lengths differ, or a mention does not lie in its text.
    """
    check_paired(gold, predicted)
    pairs = [
        (Counter(places(sentence, sentence.entities)), Counter(places(sentence, mentions)))
        for sentence, mentions in zip(gold, predicted, strict=True)
    ]
    labels = tuple(sorted({place.label for pair in pairs for side in pair for place in side}))
    column = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(gold), len(labels), 3), dtype=np.int64)
    for row, (wanted, found) in enumerate(pairs):
        for kind, side in enumerate((wanted & found, found - wanted, wanted - found)):
            for place, times in side.items():
                counts[row, column[place.label], kind] += times
    unaligned = sum(times for _, found in pairs for place, times in found.items() if not place.on_tokens)
    return StrictCounts(labels=labels, by_label=counts, unaligned=unaligned)


def check_paired(gold: Sequence[Sentence], predicted: Predictions) -> None:
    """Refuses predictions that do not belong to the sentences one to one.

    Raises:
        InputError: The two lengths differ.
    """
    if len(gold) != len(predicted):
        raise InputError(
            f"Got {len(gold)} sentences but {len(predicted)} lists of predicted mentions; "
            "give one list per sentence, an empty one where nothing was found."
        )


def _trimmed(sentence: Sentence, mention: Mention) -> tuple[int, int]:
    start_char, end_char, text = mention.start_char, mention.end_char, sentence.text
    if not 0 <= start_char < end_char <= len(text):
        raise InputError(
            f"Sentence {sentence.id!r} ({sentence.language}) has {len(text)} characters, but a "
            f"{mention.label} mention was given at {start_char}:{end_char}; offsets count code points "
            "of this text and a mention has at least one."
        )
    while start_char < end_char - 1 and text[start_char].isspace():
        start_char += 1
    while start_char < end_char - 1 and text[end_char - 1].isspace():
        end_char -= 1
    return start_char, end_char
