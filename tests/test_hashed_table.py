"""Weights of hashed features: what a step does to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieveall.hashed_table import HashedTable, ranges, summed


def learned(caution: float) -> torch.Tensor:
    """Row 0 is seen in twenty steps, row 1 in one; all are to be of class 1."""
    rows = torch.tensor([0] * 20 + [1])
    table = HashedTable(rows, np.ones(21, np.int64), torch.ones(21, 1), torch.zeros(2, 2), caution=caution)
    for example in range(21):
        look = table.look(np.array([example]))
        gradient = torch.softmax(look.scores_BC, dim=1) - torch.tensor([[0.0, 1.0]])
        table.descend(look, gradient, 0.3)
    return table.weights


def test_the_more_cautious_the_less_is_believed_of_what_was_seen_once() -> None:
    often, once = (learned(1.0)[:, 1] / learned(0.0)[:, 1]).tolist()
    assert 0 < once < often < 1


def test_scores_are_sums_of_rows_over_the_scale() -> None:
    scale_N1 = torch.tensor([[2.0], [1.0]])
    table = HashedTable(torch.tensor([0, 1, 1]), np.array([2, 1]), scale_N1, torch.zeros(2, 1))
    table.weights[:, 0] = torch.tensor([1.0, 3.0])
    assert table.look(np.array([0, 1])).scores_BC.tolist() == [[2.0], [3.0]]


def test_a_step_goes_against_the_gradient_in_the_rows_it_saw() -> None:
    table = HashedTable(torch.tensor([0, 2]), np.array([1, 1]), torch.ones(2, 1), torch.zeros(3, 1))
    table.descend(table.look(np.array([0])), torch.tensor([[4.0]]), 0.5)
    assert table.weights[:, 0].tolist() == pytest.approx([-0.5, 0.0, 0.0])


def test_ranges_and_sums() -> None:
    assert ranges(np.array([5, 0]), np.array([2, 3])).tolist() == [5, 6, 0, 1, 2]
    table = torch.tensor([[1.0], [2.0], [4.0]])
    assert summed(table, torch.tensor([0, 2, 1]), torch.tensor([2, 0, 1])).tolist() == [[5.0], [0.0], [2.0]]
