"""Muon in float32 agrees with PyTorch's, which orthogonalises in bfloat16."""

from __future__ import annotations

import pytest
import torch

from retrieveall.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_steps_agree_with_pytorchs_up_to_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Parameter(tensor) for tensor in torch.randn(1, *shape).repeat(2, 1, 1))
    start = mine.detach().clone()
    optimisers = (
        Muon([mine], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(4):
        gradient = torch.randn(shape)
        for parameter, optimiser in zip((mine, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    moved = (theirs - start).norm()
    assert moved > 0.1
    assert (mine - theirs).norm() < 0.02 * moved


def test_singular_values_come_near_one_and_vectors_stay() -> None:
    torch.manual_seed(1)
    matrices = torch.randn(3, 8, 20)
    result = orthogonalised(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ result @ v.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.3)).all()
    assert torch.allclose(inner, torch.diag_embed(values), atol=1e-4)


def test_matrices_of_one_shape_do_not_mix() -> None:
    torch.manual_seed(2)
    together = [torch.nn.Parameter(torch.randn(6, 6)) for _ in range(3)]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in together]
    for one, other in zip(together, alone, strict=True):
        one.grad = torch.randn(6, 6)
        other.grad = one.grad.clone()
    Muon(together, lr=0.1).step()
    for other in alone:
        Muon([other], lr=0.1).step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
