"""Scoring with what the prior has learned: a linear-chain CRF over the tags of a sentence's units.

A tag's score at a unit is a sum over roles: which neighbour of the unit is looked at, and which of its
features. Each role hashes them into rows of one table in its own way, so each role's sums are made once for
all units of a text. Axes: U units of all sentences, R rows of the table, T tags, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.embedding.hashing import U64, rehashed
from retrieveall.hashed_table import summed
from retrieveall.prior.features import Bags, UnitFeatures, border, unit_features
from retrieveall.prior.surroundings import neighbours
from retrieveall.text.units import split_units
from retrieveall.types import UnitScores


class Role(NamedTuple):
    """Looks at features of one ``kind``, ``offset`` units behind the unit; ``salt`` tells roles apart."""

    offset: int
    kind: str
    salt: int


_SEEN = [(0, "full"), (-1, "full"), (1, "full"), (0, "pair"), (1, "pair")]
_SEEN += [(offset, "brief") for offset in (-3, -2, 2, 3)]
_SEEN += [(0, kind) for kind in ("near", "frame", "name", "runs")]
ROLES = tuple(Role(offset, kind, 100 + place) for place, (offset, kind) in enumerate(_SEEN))


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorWeights:
    """What was learned (see learning.py).

    Attributes:
        labels: L labels, sorted.
        table: Weights of features for each tag, in the order of `UnitScores` ``(R, T)``, float16.
        transitions: Of each tag to the next one, as `UnitScores` has them ``(T + 1, T)``, float32.
    """

    labels: tuple[str, ...]
    table: torch.Tensor
    transitions: torch.Tensor


class SpanPrior:
    """Scores sentences. Thread-safe.

    Args:
        weights: What was learned.
        weight: The power to which its probabilities count.
    """

    def __init__(self, weights: PriorWeights, *, weight: float) -> None:
        self.weights, self.weight = weights, weight
        self._transitions: NDArray[np.float32] = weights.transitions.numpy()

    def score(self, texts: Sequence[str]) -> list[UnitScores]:
        """Scores S sentences."""
        units = [split_units(text) for text in texts]
        seen = unit_features(texts, units)
        tags_UT = np.zeros((len(seen.sentence), self.weights.table.shape[1]), np.float32)
        for role in ROLES:
            tags_UT += self._sums(role, seen)
        ends = np.cumsum([len(some) for some in units])
        return [
            UnitScores(
                weight=self.weight,
                labels=self.weights.labels,
                tags=tags_UT[end - len(some) : end],
                transitions=self._transitions,
            )
            for some, end in zip(units, ends, strict=True)
        ]

    def _sums(self, role: Role, seen: UnitFeatures) -> NDArray[np.float32]:
        """Returns what a role adds to each unit's tags ``(U, T)``."""
        bags: Bags = getattr(seen, role.kind)
        own = self._table_sums(rehashed(bags.hashes, role.salt), bags.counts)
        if role.offset == 0:
            return own
        neighbour = neighbours(seen.sentence, role.offset)
        none = self._table_sums(border(role.salt), np.ones(1, np.int64))
        sums: NDArray[np.float32] = np.where((neighbour >= 0)[:, None], own[neighbour], none)
        return sums

    def _table_sums(self, hashes: U64, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = torch.from_numpy(rows_of(hashes, len(self.weights.table)))
        found: NDArray[np.float32] = (
            summed(self.weights.table, rows, torch.from_numpy(counts)).float().numpy()
        )
        return found


def unit_rows(seen: UnitFeatures, rows: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Returns the table's rows that each unit's features are hashed to, unit by unit, and how many it has.

    Args:
        seen: The features.
        rows: R.
    """
    count = len(seen.sentence)
    units, hashes, counts = [], [], []
    for role in ROLES:
        near = neighbours(seen.sentence, role.offset)
        there, missing = np.flatnonzero(near >= 0), np.flatnonzero(near < 0)
        bags: Bags = getattr(seen, role.kind)
        found, found_counts = bags.of(near[there])
        units += [there, missing]
        hashes += [rehashed(found, role.salt), np.repeat(border(role.salt), len(missing))]
        counts += [found_counts, np.ones(len(missing), np.int64)]
    unit = np.concatenate([np.repeat(of, some) for of, some in zip(units, counts, strict=True)])
    ordered = np.argsort(unit, kind="stable")
    return rows_of(np.concatenate(hashes)[ordered], rows), np.bincount(unit, minlength=count)


def rows_of(hashes: U64, rows: int) -> NDArray[np.int32]:
    """Returns the rows of a table of R rows that features are hashed to."""
    return (hashes % np.uint64(rows)).astype(np.int32)
