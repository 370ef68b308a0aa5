"""A table of weights of hashed features, learned by AdaGrad with one step size for each row.

An example is a bag of rows of the table, with one column a class; a class's score is the sum of its column
over the example's rows, divided by the example's scale. A step adds to the rows of its examples; beside all
examples it holds some copies of these rows. Source: own choice.
Axes: N examples, B of one step, G features, R rows, U rows of one step, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

Counts = NDArray[np.int64]

_TINY = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """B examples, as a table scores them: their rows one after the other, how many each has, their scale."""

    scores_BC: torch.Tensor
    features: torch.Tensor
    counts: Counts
    scale_B1: torch.Tensor


class HashedTable:
    """Learns weights.

    Args:
        features: Rows, example by example ``(G,)``.
        counts: How many each example has ``(N,)``.
        scale_N1: What each example's sums are divided by.
        weights: To begin with ``(R, C)``, float32; they are changed.
        caution: What AdaGrad's sums begin with: the larger, the less is believed of rows seldom seen.

    Attributes:
        weights: What was learned so far ``(R, C)``, float32.
    """

    def __init__(
        self,
        features: torch.Tensor,
        counts: Counts,
        scale_N1: torch.Tensor,
        weights: torch.Tensor,
        *,
        caution: float = 0.0,
    ) -> None:
        self._features, self._counts, self._scale = features, counts, scale_N1
        self._starts = np.cumsum(counts) - counts
        self.weights = weights
        self._squares = torch.full((len(weights), 1), caution)  # AdaGrad's sums

    def look(self, examples: NDArray[np.int64]) -> Look:
        """Scores B examples."""
        counts = self._counts[examples]
        features = self._features[ranges(self._starts[examples], counts)]
        scale_B1 = self._scale[examples]
        scores_BC = summed(self.weights, features, torch.from_numpy(counts)) / scale_B1
        return Look(scores_BC=scores_BC, features=features, counts=counts, scale_B1=scale_B1)

    def descend(self, look: Look, gradient_BC: torch.Tensor, size: float) -> None:
        """Takes a step along the summed gradient of some examples.

        Args:
            look: What they were seen to be.
            gradient_BC: The loss's derivatives by their scores.
            size: Of the step.
        """
        gradient_BC = gradient_BC / look.scale_B1
        example_of = torch.from_numpy(np.repeat(np.arange(len(look.counts), dtype=np.int32), look.counts))
        ordered, by_row = torch.sort(look.features, stable=True)
        rows, times = torch.unique_consecutive(ordered, return_counts=True)
        gradient_UC = summed(gradient_BC, example_of[by_row], times)
        rows = rows.long()
        squares = self._squares[rows] + gradient_UC.square().mean(dim=1, keepdim=True)
        self._squares[rows] = squares
        self.weights[rows] -= size * gradient_UC / (squares.sqrt() + _TINY)


def summed(table: torch.Tensor, which: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Returns sums of rows of a table: the first ``counts[0]`` of ``which``, then the next, and so on."""
    starts = torch.cumsum(counts, 0) - counts
    return embedding_bag(which, table, starts.to(which.dtype), mode="sum")


def ranges(starts: NDArray[np.int64], counts: Counts) -> NDArray[np.int64]:
    """Returns the places starts[0], starts[0] + 1 … of all ranges, one after the other."""
    shifts = starts - (np.cumsum(counts) - counts)
    places: NDArray[np.int64] = np.repeat(shifts, counts) + np.arange(counts.sum())
    return places
