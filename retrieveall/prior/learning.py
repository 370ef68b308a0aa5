"""Learning of the prior's weights from tagged sentences: a linear-chain CRF (see crf.py).

Every unit has a tag: one for a mention's first unit, one for its others, one for what stands outside. At most
`MOST_UNITS` units are learned from, 20,000 sentences of PAN-X whole. With three labels a table has up to
2^20 rows, 15 MB on disk. Axes: U units, R rows, T tags, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from retrieveall.corpus.limits import limited
from retrieveall.errors import InputError
from retrieveall.prior.crf import NEVER, learn_crf
from retrieveall.prior.features import unit_features
from retrieveall.prior.model import PriorWeights, unit_rows
from retrieveall.text.units import split_units, unit_borders
from retrieveall.types import BEGINS, INSIDE, ContextExample, Sentence, Span

MOST_UNITS = 400_000
MOST_ROWS, LEAST_ROWS, MOST_WEIGHTS = 1 << 20, 1 << 14, 1 << 24
_ROWS_PER_UNIT = 16  # of the corpus, before rows are rounded up to a power of two
_BATCH_SENTENCES = 1_000

Tagged = Sentence | ContextExample
Mention = tuple[int, int, str]  # first unit, end unit, label


def learn_prior(sentences: Sequence[Tagged], *, start: PriorWeights | None = None) -> PriorWeights:
    """Learns from tagged sentences.

    Mentions that do not begin and end with units are passed over.

    Args:
        sentences: Of one language, or of several that are to share what they say.
        start: Weights to go on from, of the same labels or others.

    Raises:
        InputError: No sentence has a mention.
    """
    units = [split_units(sentence.text) for sentence in sentences]
    share = min(1.0, MOST_UNITS / max(1, sum(map(len, units))))
    most = limited(len(sentences), max(1, int(share * len(sentences))))
    chosen = [i for i in most if units[i]]
    mentions = [_mentions(sentences[i], units[i]) for i in chosen]
    known = {label for some in mentions for _, _, label in some}
    if not known:
        raise InputError(
            "The prior was to be learned from sentences without any mention. Import a tagged corpus."
        )
    lengths = np.array([len(units[i]) for i in chosen])
    labels = tuple(sorted(known.union(start.labels if start else ())))
    table_rows = len(start.table) if start else rows_for(int(lengths.sum()), 1 + 2 * len(labels))
    begun = _begun(start, labels, table_rows)
    rows, counts = [], []
    for first in range(0, len(chosen), _BATCH_SENTENCES):
        some = chosen[first : first + _BATCH_SENTENCES]
        seen = unit_features([sentences[i].text for i in some], [units[i] for i in some])
        found, found_counts = unit_rows(seen, table_rows)
        rows.append(found)
        counts.append(found_counts)
    tags = [_tags(some, length, labels) for some, length in zip(mentions, lengths.tolist(), strict=True)]
    table, transitions = learn_crf(
        torch.from_numpy(np.concatenate(rows)),
        np.concatenate(counts),
        torch.from_numpy(np.concatenate(tags)),
        lengths,
        begun.transitions,
        begun.table,
    )
    return PriorWeights(labels=labels, table=table.half(), transitions=transitions)


def rows_for(units: int, tags: int) -> int:
    """Returns how many rows the table of a corpus of so many units has, a power of two."""
    most = min(MOST_ROWS, 1 << ((MOST_WEIGHTS // tags).bit_length() - 1))
    wanted = max(LEAST_ROWS, units * _ROWS_PER_UNIT)
    return min(most, 1 << (wanted - 1).bit_length())


def _mentions(sentence: Tagged, units: Sequence[Span]) -> list[Mention]:
    """Returns the mentions that are runs of units."""
    firsts, ends = unit_borders(units)
    return [
        (firsts[entity.start_char], ends[entity.end_char], entity.label)
        for entity in sentence.entities
        if entity.start_char in firsts and entity.end_char in ends
    ]


def _tags(mentions: Sequence[Mention], units: int, labels: Sequence[str]) -> np.ndarray:
    """Returns the tags of a sentence's units, in the order of `UnitScores`."""
    tags = np.zeros(units, np.int64)
    for first, end, label in mentions:
        begins = 1 + 2 * labels.index(label)
        tags[first], tags[first + 1 : end] = begins, begins + 1
    return tags


def _begun(start: PriorWeights | None, labels: tuple[str, ...], rows: int) -> PriorWeights:
    """Returns the weights to begin with, float32: zeros, or `start`'s for the labels that it has."""
    begun = PriorWeights(
        labels=labels,
        table=torch.zeros(rows, 1 + 2 * len(labels)),
        transitions=_transitions(len(labels)),
    )
    if start is not None:
        tags = [0, *(1 + 2 * labels.index(label) + last for label in start.labels for last in (0, 1))]
        begun.table[:, tags] = start.table.float()
        begun.transitions[np.ix_([*tags, 1 + 2 * len(labels)], tags)] = start.transitions
    return begun


def _transitions(labels: int) -> torch.Tensor:
    """Returns transitions that nothing has moved yet ``(T + 1, T)``: inside follows its own label alone."""
    moves = torch.zeros(2 * labels + 2, 2 * labels + 1)
    moves[:, INSIDE] = NEVER
    for before in (BEGINS, INSIDE):
        moves[:-1][before, INSIDE].fill_diagonal_(0.0)
    return moves
