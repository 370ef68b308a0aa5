"""The Fisher information is that of plain autograd, row by row, and its sets are what they are called."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retrieveall.errors import InputError
from retrieveall.training.fisher import (
    diagonal_fisher,
    keeping,
    moved_share,
    overlap,
    top_weights,
    weights_of,
)
from retrieveall.training.shared import Portion, SharedBase
from tests.models import ARCHITECTURES, Architecture, exact_model
from tests.test_training_shared import peft_gradients, random_portion
from tests.trainings import make_base


def of_autograd(architecture: Architecture, portion: Portion) -> torch.Tensor:
    """The mean of squared gradients, each of one row alone through plain PEFT."""
    squares = []
    for row in portion.rows:
        alone = replace(portion, rows=[row], weights=[1.0])
        with tempfile.TemporaryDirectory() as folder:
            _, gradients = peft_gradients(architecture, alone, Path(folder))
        named = portion.adapter.parameters.items()
        parts = [gradients.get(name, torch.zeros_like(matrix)).flatten() for name, matrix in named]
        squares.append(torch.cat(parts).square())
    return torch.stack(squares).mean(0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_squares_of_single_rows_are_averaged(architecture: Architecture) -> None:
    """In float64; more rows than fit into memory at once, and cut into passes."""
    base = make_base(exact_model(architecture), pass_tokens=90)
    portion = random_portion(base, rank=2, rows=11, seed=3)
    fisher_P = diagonal_fisher(base, portion.adapter, portion.rows)

    torch.testing.assert_close(fisher_P, of_autograd(architecture, portion), rtol=1e-9, atol=1e-12)
    assert fisher_P.max() > 0
    assert all(matrix.grad is None for matrix in portion.adapter.parameters.values())


def test_it_is_not_the_square_of_the_batch_gradient() -> None:
    base = make_base(exact_model())
    portion = random_portion(base, rank=2, rows=4, seed=1)
    fisher_P = diagonal_fisher(base, portion.adapter, portion.rows)
    base.backward([replace(portion, weights=[0.25] * 4)])
    grads = [matrix.grad for matrix in portion.adapter.parameters.values()]
    of_batch_P = torch.cat([grad.flatten() for grad in grads if grad is not None]).square()

    assert bool((fisher_P >= of_batch_P - 1e-15).all())  # the mean of squares is never below
    assert fisher_P.sum() > 1.05 * of_batch_P.sum()


def test_without_sentences_there_is_no_fisher_information() -> None:
    base, portion = small()
    with pytest.raises(InputError, match="0 sentences"):
        diagonal_fisher(base, portion.adapter, [])


def small() -> tuple[SharedBase, Portion]:
    base = make_base(exact_model())
    return base, random_portion(base, rank=2, rows=1, seed=0)


def test_the_top_of_the_weights_is_kept_and_the_rest_zero() -> None:
    _, portion = small()
    adapter = portion.adapter
    weights_P = weights_of(adapter)
    fisher_P = torch.rand(len(weights_P), generator=torch.Generator().manual_seed(0))
    kept_P = top_weights(fisher_P, 10)

    assert int(kept_P.sum()) == round(len(weights_P) / 10)
    assert fisher_P[kept_P].min() >= fisher_P[~kept_P].max()
    thinned = keeping(adapter, kept_P)
    assert torch.equal(weights_of(thinned), weights_P * kept_P)
    assert {n: m.shape for n, m in thinned.parameters.items()} == {
        n: m.shape for n, m in adapter.parameters.items()
    }
    assert torch.equal(weights_of(keeping(adapter, top_weights(fisher_P, 100))), weights_P)
    assert int(top_weights(fisher_P, 1e-9).sum()) == 1


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_percentages_out_of_range_are_refused(percent: float) -> None:
    with pytest.raises(InputError, match="at most 100"):
        top_weights(torch.ones(3), percent)


def test_sets_of_random_weights_overlap_by_chance_and_a_set_wholly_with_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (top_weights(torch.rand(40_000, generator=generator), 25) for _ in range(2))

    assert overlap(one, other) == pytest.approx(0.25, abs=0.02)
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, one) == 1.0
    assert overlap(one, ~one) == 0.0


def test_the_share_of_a_move_that_falls_into_a_set() -> None:
    before, after = torch.zeros(4), torch.tensor([3.0, 0.0, 4.0, 0.0])
    assert moved_share(before, after, torch.tensor([True, True, False, False])) == pytest.approx(9 / 25)
    assert moved_share(before, before, torch.ones(4, dtype=torch.bool)) == 0.0
