"""Muon in float32 or better, for processors without bfloat16 units.

torch.optim.Muon orthogonalises in bfloat16, which such processors emulate ten times slower than
float32: for a small model its step then costs as much as forward and backward passes together.
Source: Jordan et al. 2024; the scale of the update after Liu et al. 2025, so that the learning rate
and weight decay of AdamW fit.

Axes: N matrices of one shape, R rows, C columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS_OF_ADAMW = 0.2


class Muon(torch.optim.Optimizer):
    """Moves every matrix along its orthogonalised momentum.

    Args:
        matrices: Parameters with two axes.
        lr: Learning rate, on the scale of AdamW's.
        momentum: Of the running mean of gradients; Nesterov's look-ahead is applied.
        weight_decay: Decoupled, per unit of learning rate.

    Raises:
        ValueError: A parameter is no matrix.
    """

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim != 2]
        if shapes:
            raise ValueError(f"Muon moves matrices; parameters of shapes {shapes} were given.")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Takes one step; parameters without a gradient stay where they are."""
        if closure is not None:
            raise ValueError("Muon takes no closure.")
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._move(parameters, group, scale=_RMS_OF_ADAMW * max(shape) ** 0.5)

    def _move(self, parameters: list[Tensor], group: dict[str, Any], *, scale: float) -> None:
        updates = [self._momentum(parameter, group["momentum"]) for parameter in parameters]
        wide = torch.promote_types(updates[0].dtype, torch.float32)
        directions_NRC = orthogonalised(torch.stack(updates).to(wide))
        for parameter, direction_RC in zip(parameters, directions_NRC, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(direction_RC.to(parameter.dtype), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean: Tensor = state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(mean, momentum)


def orthogonalised(matrices_NRC: Tensor) -> Tensor:
    """Returns matrices of the same singular vectors whose singular values lie near one."""
    wide = matrices_NRC.shape[1] <= matrices_NRC.shape[2]
    x: Tensor = matrices_NRC if wide else matrices_NRC.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
