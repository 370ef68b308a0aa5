"""Softmax regression over hashed features, by AdaGrad with one step size for each row.

An example is a bag of rows of a table with one column a class; a class's score is the sum of its column over
the example's rows, divided by the example's scale. The examples are passed over several times in an order
drawn from a fixed seed, and nothing else is random: the same examples give the same weights. A step adds to
the rows of its examples; beside all examples it holds some copies of these rows. Source: own choice.
Axes: N examples, B of one step, G features, R rows, U rows of one step, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

Counts = NDArray[np.int64]

STEP_EXAMPLES = 256
STEP_SIZE = 0.3
_SEED = 13
_TINY = 1e-8


def summed(table: torch.Tensor, which: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Returns sums of rows of a table: the first ``counts[0]`` of ``which``, then the next, and so on."""
    starts = torch.cumsum(counts, 0) - counts
    return embedding_bag(which, table, starts.to(which.dtype), mode="sum")


def regression(
    features: torch.Tensor,
    counts: Counts,
    classes: torch.Tensor,
    scale_N1: torch.Tensor,
    *,
    shape: tuple[int, int],
    epochs: int,
    worth_N1: torch.Tensor | None = None,
    step_examples: int = STEP_EXAMPLES,
    caution: float = 0.0,
) -> torch.Tensor:
    """Learns the classes of N examples from the rows that their features are hashed to.

    Args:
        features: Rows, example by example ``(G,)``.
        counts: How many each example has ``(N,)``.
        classes: Class of each ``(N,)``.
        scale_N1: What each example's sums are divided by.
        shape: R and C.
        epochs: Passes over the examples.
        worth_N1: How much each example counts; None is 1 for all.
        step_examples: Examples of one step.
        caution: What AdaGrad's sums begin with: the larger, the less is believed of rows seldom seen.

    Returns:
        The weights ``(R, C)``, float32.
    """
    learner = _Regression(features, counts, classes, scale_N1, shape, worth_N1, caution)
    generator = np.random.default_rng(_SEED)
    total = max(1, len(counts) * epochs)
    for epoch in range(epochs):
        order = generator.permutation(len(counts))
        for first in range(0, len(order), step_examples):
            done = (epoch * len(order) + first) / total
            learner.step(order[first : first + step_examples], STEP_SIZE * (1.0 - done))
    return learner.weights


class _Regression:
    def __init__(
        self,
        features: torch.Tensor,
        counts: Counts,
        classes: torch.Tensor,
        scale_N1: torch.Tensor,
        shape: tuple[int, int],
        worth_N1: torch.Tensor | None,
        caution: float,
    ) -> None:
        self._features, self._counts, self._classes = features, counts, classes
        self._scale, self._worth = scale_N1, worth_N1
        self._starts = np.cumsum(counts) - counts
        self.weights = torch.zeros(shape)
        self._squares = torch.full((shape[0], 1), caution)  # AdaGrad's sums

    def step(self, examples: NDArray[np.int64], size: float) -> None:
        """Descends along the summed gradient of a step's examples."""
        counts = self._counts[examples]
        features = self._features[ranges(self._starts[examples], counts)]
        scale = self._scale[examples]
        shares = torch.softmax(summed(self.weights, features, torch.from_numpy(counts)) / scale, dim=1)
        shares[torch.arange(len(examples)), self._classes[examples]] -= 1.0
        gradient_BC = shares / scale if self._worth is None else shares * self._worth[examples] / scale
        example_of = torch.from_numpy(np.repeat(np.arange(len(examples), dtype=np.int32), counts))
        ordered, by_row = torch.sort(features, stable=True)
        rows, times = torch.unique_consecutive(ordered, return_counts=True)
        gradient_UC = summed(gradient_BC, example_of[by_row], times)
        rows = rows.long()
        squares = self._squares[rows] + gradient_UC.square().mean(dim=1, keepdim=True)
        self._squares[rows] = squares
        self.weights[rows] -= size * gradient_UC / (squares.sqrt() + _TINY)


def ranges(starts: NDArray[np.int64], counts: Counts) -> NDArray[np.int64]:
    """Returns the places starts[0], starts[0] + 1 … of all ranges, one after the other."""
    shifts = starts - (np.cumsum(counts) - counts)
    places: NDArray[np.int64] = np.repeat(shifts, counts) + np.arange(counts.sum())
    return places
