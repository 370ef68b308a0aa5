"""Softmax regression over hashed features (see hashed_table.py).

The examples are passed over several times in an order drawn from a fixed seed, and nothing else is random:
the same examples give the same weights. Source: own choice.
Axes: N examples, B of one step, G features, R rows, C classes.
"""

from __future__ import annotations

import numpy as np
import torch

from retrieveall.hashed_table import Counts, HashedTable

STEP_EXAMPLES = 256
STEP_SIZE = 0.3
_SEED = 13


def regression(
    features: torch.Tensor,
    counts: Counts,
    classes: torch.Tensor,
    scale_N1: torch.Tensor,
    *,
    shape: tuple[int, int],
    epochs: int,
    worth_N1: torch.Tensor,
) -> torch.Tensor:
    """Learns the classes of N examples from the rows that their features are hashed to.

    Args:
        features: Rows, example by example ``(G,)``.
        counts: How many each example has ``(N,)``.
        classes: Class of each ``(N,)``.
        scale_N1: What each example's sums are divided by.
        shape: R and C.
        epochs: Passes over the examples.
        worth_N1: How much each example counts.

    Returns:
        The weights ``(R, C)``, float32.
    """
    table = HashedTable(features, counts, scale_N1, torch.zeros(shape))
    generator = np.random.default_rng(_SEED)
    total = max(1, len(counts) * epochs)
    for epoch in range(epochs):
        order = generator.permutation(len(counts))
        for first in range(0, len(order), STEP_EXAMPLES):
            some = order[first : first + STEP_EXAMPLES]
            look = table.look(some)
            gradient_BC = torch.softmax(look.scores_BC, dim=1)
            gradient_BC[torch.arange(len(some)), classes[some]] -= 1.0
            done = (epoch * len(order) + first) / total
            table.descend(look, gradient_BC * worth_N1[some], STEP_SIZE * (1.0 - done))
    return table.weights
