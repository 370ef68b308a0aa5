"""What a linear-chain CRF thinks of the decisions of a tag line, each by its exact probability.

The decisions before are given, and the log-sums over all tags that may still follow, computed once from the
sentence's end to its start, stand for those behind. So the probabilities of a line's decisions multiply to
the CRF's probability of its tags. Axes: U units, T tags, L labels (see `UnitScores`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieveall.types import UnitScores

Floats = NDArray[np.float64]

_OUTSIDE, _BEGINS, _INSIDE = 0, slice(1, None, 2), slice(2, None, 2)  # tags


class Chain:
    """Answers for one sentence.

    Args:
        scores: Of the sentence.

    Attributes:
        labels: L labels.
        start: The tag that stands for the sentence's start.
    """

    def __init__(self, scores: UnitScores) -> None:
        tags_UT, moves = scores.tags.astype(np.float64), scores.transitions.astype(np.float64)
        units, tags = tags_UT.shape
        self.labels, self.start = scores.labels, int(tags)
        self._moves = moves
        # from each tag before a unit: log-sums over all that may follow, and where the tag's mention ends
        self._follows = np.zeros((units + 1, tags + 1))
        self._leaves = np.zeros((units + 1, tags + 1))
        self._from = np.empty((units, tags))  # from each tag at a unit, its own score too
        for unit in reversed(range(units)):
            here = self._from[unit] = tags_UT[unit] + self._follows[unit + 1, :tags]
            next_ones = moves + here
            next_ones[:, _INSIDE], going = -np.inf, next_ones[:, _INSIDE].copy()
            self._leaves[unit] = _log_sum(next_ones)
            self._follows[unit] = np.logaddexp(self._leaves[unit], _log_sum(going))
        self._begin = tags_UT[:, _BEGINS]
        self._outside_before = _sums_before(tags_UT[:, _OUTSIDE] + moves[_OUTSIDE, _OUTSIDE])
        stays = np.diagonal(moves[_INSIDE, _INSIDE])
        self._inside_before = _sums_before(tags_UT[:, _INSIDE] + stays)
        self._second = np.diagonal(moves[_BEGINS, _INSIDE]) - stays  # the first I of a mention follows its B
        self._starts = _log_sum(moves[_OUTSIDE, _BEGINS] + self._from[:, _BEGINS])

    def tag_of(self, label: str, length: int) -> int:
        """Returns the last tag of a mention of some units; of a label that is not the CRF's, outside."""
        if label not in self.labels:
            return _OUTSIDE
        return 1 + 2 * self.labels.index(label) + int(length > 1)

    def starts(self, unit: int, tag: int) -> tuple[Floats, float]:
        """Returns where the next mention starts.

        Args:
            unit: The first free unit.
            tag: The one before it; its mention has ended.

        Returns:
            The probability that it starts at each unit from `unit` on, and that there is none.
        """
        whole = self._leaves[unit, tag]
        if unit == len(self._begin):
            return np.empty(0), 1.0
        moves = self._moves
        outside = self._outside_before[unit:] - self._outside_before[unit]
        outside[1:] += moves[tag, _OUTSIDE] - moves[_OUTSIDE, _OUTSIDE]
        starts = outside[:-1] + self._starts[unit:]
        starts[0] = _log_sum(moves[tag, _BEGINS] + self._from[unit, _BEGINS])
        return np.exp(starts - whole), float(np.exp(outside[-1] - whole))

    def ends(self, first: int, tag: int, end: int) -> tuple[float, Floats]:
        """Returns what becomes of a mention of the units from `first` to before `end`.

        Args:
            first: Its first unit.
            tag: The one before it.
            end: At least `first` + 1.

        Returns:
            The probability that it goes on to unit `end`, and each label's where it does not ``(L,)``.
        """
        so_far_L = self._moves[tag, _BEGINS] + self._begin[first]
        last = _BEGINS
        if end > first + 1:
            last = _INSIDE
            so_far_L = so_far_L + self._inside_before[end] - self._inside_before[first + 1] + self._second
        ends_L = so_far_L + self._leaves[end, : self.start][last]
        goes = -np.inf
        if end < len(self._begin):
            moves = np.diagonal(self._moves[last, _INSIDE])
            goes = float(_log_sum(so_far_L + moves + self._from[end, _INSIDE]))
        ends = _log_sum(ends_L)
        return float(np.exp(goes - np.logaddexp(goes, ends))), np.exp(ends_L - ends)


def _log_sum(values: Floats) -> Floats:
    """Returns the logarithms of the sums of exponentials over the last axis."""
    sums: Floats = np.logaddexp.reduce(values, axis=-1)
    return sums


def _sums_before(values: Floats) -> Floats:
    """Returns the sums of the rows before each, and of all: one row more."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
