"""What a linear-chain CRF thinks of the decisions of a tag line, each by its exact probability.

The decisions before are given, and the log-sums over all tags that may still follow, computed once from the
sentence's end to its start, stand for those behind. So the probabilities of a line's decisions multiply to
the CRF's probability of its tags, unless two mentions of it read alike.
Axes: U units, T tags, L labels (see `UnitScores`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieveall.types import BEGINS, INSIDE, OUTSIDE, UnitScores

Floats = NDArray[np.float64]


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
        second, others = np.diagonal(moves[BEGINS, INSIDE]), np.diagonal(moves[INSIDE, INSIDE])
        self._leaves = np.zeros((units + 1, tags + 1))  # log-sums behind each tag whose mention has ended
        self._from = np.empty((units, tags))  # from each tag at a unit on, its own score too
        follows = np.zeros(tags + 1)  # behind each tag
        for unit in reversed(range(units)):
            here = self._from[unit] = tags_UT[unit] + follows[:tags]
            begins = _log_sum(moves[:, BEGINS] + here[BEGINS])
            leaves = self._leaves[unit] = np.logaddexp(moves[:, OUTSIDE] + here[OUTSIDE], begins)
            follows = leaves.copy()
            follows[:tags][BEGINS] = np.logaddexp(leaves[:tags][BEGINS], second + here[INSIDE])
            follows[:tags][INSIDE] = np.logaddexp(leaves[:tags][INSIDE], others + here[INSIDE])
        self._second, self._others = second, others
        self._begin = tags_UT[:, BEGINS]
        self._outside_before = _sums_before(tags_UT[:, OUTSIDE] + moves[OUTSIDE, OUTSIDE])
        self._inside_before = _sums_before(tags_UT[:, INSIDE] + others)
        self._starts = _log_sum(moves[OUTSIDE, BEGINS] + self._from[:, BEGINS])

    def tag_of(self, label: str, length: int) -> int:
        """Returns the last tag of a mention of some units; of a label that is not the CRF's, outside."""
        if label not in self.labels:
            return OUTSIDE
        return int(np.arange(self.start)[INSIDE if length > 1 else BEGINS][self.labels.index(label)])

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
        outside[1:] += moves[tag, OUTSIDE] - moves[OUTSIDE, OUTSIDE]
        starts = outside[:-1] + self._starts[unit:]
        starts[0] = _log_sum(moves[tag, BEGINS] + self._from[unit, BEGINS])
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
        so_far_L, last, move = self._moves[tag, BEGINS] + self._begin[first], BEGINS, self._second
        if end > first + 1:
            inside = self._inside_before[end] - self._inside_before[first + 1]
            so_far_L, last, move = so_far_L + inside + self._second - self._others, INSIDE, self._others
        ends_L = so_far_L + self._leaves[end, : self.start][last]
        goes = -np.inf
        if end < len(self._begin):
            goes = float(_log_sum(so_far_L + move + self._from[end, INSIDE]))
        ends = _log_sum(ends_L)
        return float(np.exp(goes - np.logaddexp(goes, ends))), np.exp(ends_L - ends)


def likeliest_mentions(scores: UnitScores) -> list[tuple[int, int, str]]:
    """Returns first and end unit and label of the mentions of a sentence's likeliest tags (Viterbi)."""
    tags_UT, moves, count = scores.tags, scores.transitions[:-1], scores.tags.shape[1]
    if not len(tags_UT):
        return []
    best, came_from = tags_UT[0] + scores.transitions[-1], []
    for here in tags_UT[1:]:
        leading = best[:, None] + moves
        came_from.append(leading.argmax(axis=0))
        best = leading[came_from[-1], np.arange(count)] + here
    line = [int(best.argmax())]
    for before in reversed(came_from):
        line.append(int(before[line[-1]]))
    tags, begins = line[::-1], range(count)[BEGINS]
    mentions = []
    for first, tag in enumerate(tags):
        if tag in begins:
            end = first + 1
            while end < len(tags) and tags[end] == tag + 1:
                end += 1
            mentions.append((first, end, scores.labels[begins.index(tag)]))
    return mentions


def _log_sum(values: Floats) -> Floats:
    """Returns the logarithms of the sums of exponentials over the last axis."""
    sums: Floats = np.logaddexp.reduce(values, axis=-1)
    return sums


def _sums_before(values: Floats) -> Floats:
    """Returns the sums of the rows before each, and of all: one row more."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
