"""Which weights of an adapter a language uses: the diagonal of its Fisher information.

    F_l[i] = mean over sentences x of l of (d log p(y | x) / d theta_i)^2

y is the gold tag line of x, p the probability over what the grammar allows, as in training, theta all
weights of the adapter. Source: Sources of Transfer in Multilingual NER; that p and theta are these is our
own choice.

The square stands inside the mean, so a batch's gradient is of no use. Here every row of a pass has an
adapter of its own that shares its matrices with all the others: one backward pass leaves each row's gradient
by itself, and the frozen base is still multiplied once for all rows.

Axes: P weights of the adapter, in the order of `TrainedLora.parameters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from retrieveall.errors import InputError
from retrieveall.lora.trained import TrainedLora
from retrieveall.training.data import DecidedRow
from retrieveall.training.shared import Portion, SharedBase

_ROWS = 8  # whose gradients are in memory at once


def diagonal_fisher(base: SharedBase, adapter: TrainedLora, rows: Sequence[DecidedRow]) -> Tensor:
    """Returns F, (P,), on the adapter's device.

    Args:
        base: The frozen base.
        adapter: Whose weights; its gradients stay as they are.
        rows: One per sentence, at least one; one without a decision counts as zeros.

    Raises:
        InputError: There are no rows.
    """
    if not rows:
        raise InputError("The Fisher information of 0 sentences was asked for; give at least one sentence.")
    total_P = torch.zeros_like(weights_of(adapter))
    for start in range(0, len(rows), _ROWS):
        portions = [
            Portion(adapter=_same_weights(adapter), rows=[row], weights=[1.0])
            for row in rows[start : start + _ROWS]
        ]
        base.backward(portions)
        for portion in portions:
            total_P += _gradient(portion.adapter).square()
    return total_P / len(rows)


def weights_of(adapter: TrainedLora) -> Tensor:
    """Returns all weights in one vector, (P,), a copy."""
    return torch.cat([matrix.detach().flatten() for matrix in adapter.parameters.values()])


def top_weights(fisher_P: Tensor, percent: float) -> Tensor:
    """Returns (P,), True for the given percentage of the weights with the largest Fisher information.

    Args:
        fisher_P: From `diagonal_fisher`.
        percent: Above 0, at most 100; at least one weight is kept.

    Raises:
        InputError: The percentage is out of range.
    """
    if not 0 < percent <= 100:
        raise InputError(f"The top {percent} % of the weights were asked for; expected above 0, at most 100.")
    count = max(1, round(len(fisher_P) * percent / 100))
    kept_P = torch.zeros(len(fisher_P), dtype=torch.bool, device=fisher_P.device)
    kept_P[fisher_P.topk(count).indices] = True
    return kept_P


def keeping(adapter: TrainedLora, kept_P: Tensor) -> TrainedLora:
    """Returns the adapter with all other weights zero."""
    parts = iter(torch.split(kept_P, [matrix.numel() for matrix in adapter.parameters.values()]))
    matrices = {
        layer: (a_RI.detach() * next(parts).view_as(a_RI), b_OR.detach() * next(parts).view_as(b_OR))
        for layer, (a_RI, b_OR) in adapter.matrices.items()
    }
    return replace(adapter, matrices=matrices)


def overlap(one_P: Tensor, other_P: Tensor) -> float:
    """Returns the share of the first set's weights that are in the second, too; sets of one size commute."""
    return float((one_P & other_P).sum() / one_P.sum())


def moved_share(before_P: Tensor, after_P: Tensor, kept_P: Tensor) -> float:
    """Returns the share of ``||after - before||^2`` on a set of weights; 0 where nothing moved."""
    squares_P = (after_P - before_P).double().square()
    whole = float(squares_P.sum())
    return float(squares_P[kept_P].sum()) / whole if whole else 0.0


def _same_weights(adapter: TrainedLora) -> TrainedLora:
    """An adapter with the same memory for its weights and gradients of its own."""
    matrices = {
        layer: (a_RI.detach().requires_grad_(), b_OR.detach().requires_grad_())
        for layer, (a_RI, b_OR) in adapter.matrices.items()
    }
    return replace(adapter, matrices=matrices)


def _gradient(adapter: TrainedLora) -> Tensor:
    """(P,); a matrix that no decision depends on has none, which counts as zeros."""
    return torch.cat(
        [
            (torch.zeros_like(matrix) if matrix.grad is None else matrix.grad).flatten()
            for matrix in adapter.parameters.values()
        ]
    )
