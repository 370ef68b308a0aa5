"""Scoring with the prior's learned weights.

A head is a list of roles: which neighbour of the decision's unit is looked at, and which of its features.
Each role hashes them into rows of the head's table in its own way, so a head's score is a sum over roles,
and each role's sums are made once for all units of a text.
Axes: U units of all sentences, R rows of a table, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.embedding.hashing import U64, rehashed
from retrieveall.prior.features import Bags, UnitFeatures, border, unit_features
from retrieveall.regression import summed
from retrieveall.text.units import split_units
from retrieveall.types import UnitScores

LENGTHS = 6  # mentions of more units count as so many
Head = Literal["start", "go", "label"]


class Role(NamedTuple):
    """Looks at features of one ``kind``, ``offset`` units behind the anchor; ``salt`` tells roles apart."""

    offset: int
    kind: str
    salt: int


def _window(first_salt: int) -> tuple[Role, ...]:
    seen = [(0, "full"), (-1, "full"), (1, "full"), (0, "pair"), (1, "pair")]
    seen += [(offset, "brief") for offset in (-3, -2, 2, 3)]
    return tuple(Role(offset, kind, first_salt + i) for i, (offset, kind) in enumerate(seen))


START = _window(100)  # anchored at the unit that may start a mention
GO = _window(200)  # at the unit that may go on
START_SENTENCE, GO_SENTENCE = Role(0, "brief", 150), Role(0, "brief", 250)  # at all units of the sentence
GO_FIRST = (Role(0, "brief", 300),)  # at the mention's first unit
OPENS = (Role(0, "full", 400), Role(-1, "full", 401), Role(-2, "brief", 402), Role(-3, "brief", 403))
# at its last
CLOSES = (Role(0, "full", 500), Role(1, "full", 501), Role(2, "brief", 502), Role(3, "brief", 503))
INSIDE = Role(0, "full", 600)  # at each of its units
PAIRS = Role(0, "pair", 601)  # at each but the first
AROUND = Role(0, "word", 602)  # at each unit that is not of it
GO_LENGTH, LABEL_LENGTH = 700, 800  # salts: one feature for each length

SCALE = 10.0  # what the sums of all heads are divided by


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorWeights:
    """What was learned (see learning.py).

    Attributes:
        labels: L labels, sorted.
        start: Table of the log-odds that a mention starts ``(R, 1)``, in float16 like the others.
        go: … that it goes on ``(R, 1)``.
        label: Table of the labels' scores ``(R, L)``.
    """

    labels: tuple[str, ...]
    start: torch.Tensor
    go: torch.Tensor
    label: torch.Tensor


class SpanPrior:
    """Scores sentences. Thread-safe.

    Args:
        weights: What was learned.
        weight: The power to which its probabilities count.
    """

    def __init__(self, weights: PriorWeights, *, weight: float) -> None:
        self.weights, self.weight = weights, weight
        self._go_length = _length_scores(weights.go, GO_LENGTH)[:, 0]
        self._length = _length_scores(weights.label, LABEL_LENGTH)

    def score(self, texts: Sequence[str]) -> list[UnitScores]:
        """Scores S sentences."""
        units = [split_units(text) for text in texts]
        seen = unit_features(texts, units)
        start, go = self._sums("start", START, seen)[:, 0], self._sums("go", GO, seen)[:, 0]
        start += _over_sentences(self._sums("start", (START_SENTENCE,), seen)[:, 0], seen)
        go += _over_sentences(self._sums("go", (GO_SENTENCE,), seen)[:, 0], seen)
        go_first = self._sums("go", GO_FIRST, seen)[:, 0]
        opens, closes = self._sums("label", OPENS, seen), self._sums("label", CLOSES, seen)
        inside, pairs = self._sums("label", (INSIDE,), seen), self._sums("label", (PAIRS,), seen)
        around = self._sums("label", (AROUND,), seen)
        scores, first = [], 0
        for some in units:
            here = slice(first, first + len(some))
            scores.append(
                UnitScores(
                    weight=self.weight,
                    labels=self.weights.labels,
                    start=start[here],
                    go=go[here],
                    go_first=go_first[here],
                    go_length=self._go_length,
                    opens=opens[here],
                    closes=closes[here],
                    inside=_sums_before(inside[here] - around[here]),
                    pairs=_sums_before(pairs[here]),
                    around=around[here].sum(axis=0),
                    length=self._length,
                )
            )
            first += len(some)
        return scores

    def _sums(self, head: Head, roles: Sequence[Role], seen: UnitFeatures) -> NDArray[np.float32]:
        """Returns what some roles of a head add up to, anchored at each unit ``(U, columns)``."""
        table: torch.Tensor = getattr(self.weights, head)
        total = np.zeros((len(seen.sentence), table.shape[1]), np.float32)
        for role in roles:
            bags: Bags = getattr(seen, role.kind)
            own = _table_sums(table, rehashed(bags.hashes, role.salt), bags.counts)
            if role.offset == 0:
                total += own
                continue
            neighbour = neighbours(seen, role.offset)
            none = _table_sums(table, border(role.salt), np.ones(1, np.int64))
            total += np.where((neighbour >= 0)[:, None], own[neighbour], none)
        scaled: NDArray[np.float32] = total / np.float32(SCALE)
        return scaled


def neighbours(seen: UnitFeatures, offset: int) -> NDArray[np.int64]:
    """Returns the unit ``offset`` units behind each unit, -1 where its sentence has none ``(U,)``."""
    count = len(seen.sentence)
    place = np.arange(count) + offset
    inside = (place >= 0) & (place < count)
    near = np.clip(place, 0, max(0, count - 1))
    return np.where(inside & (seen.sentence[near] == seen.sentence), near, -1) if count else place


def rows_of(hashes: U64, rows: int) -> NDArray[np.int32]:
    """Returns the rows of a table of R rows that features are hashed to."""
    return (hashes % np.uint64(rows)).astype(np.int32)


def length_feature(salt: int, lengths: NDArray[np.int64]) -> U64:
    """Returns the feature of each length, in units."""
    return rehashed(np.minimum(lengths, LENGTHS).astype(np.uint64), salt)


def _length_scores(table: torch.Tensor, salt: int) -> NDArray[np.float32]:
    hashes = length_feature(salt, np.arange(1, LENGTHS + 1))
    return _table_sums(table, hashes, np.ones(LENGTHS, np.int64)) / np.float32(SCALE)


def _table_sums(table: torch.Tensor, hashes: U64, counts: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = torch.from_numpy(rows_of(hashes, len(table)))
    found: NDArray[np.float32] = summed(table, rows, torch.from_numpy(counts)).float().numpy()
    return found


def _over_sentences(values_U: NDArray[np.float32], seen: UnitFeatures) -> NDArray[np.float32]:
    """Returns for each unit the sum over its sentence."""
    sums = np.bincount(seen.sentence, values_U)
    return sums[seen.sentence].astype(np.float32)


def _sums_before(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the sums of the rows before each, and of all: one row more."""
    return np.concatenate([np.zeros((1, values.shape[1]), np.float32), np.cumsum(values, axis=0)])
