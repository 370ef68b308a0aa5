"""The last layer computes no more columns than are asked for.

Of what a model's last layer makes of a prompt, only keys and values of the earlier tokens are ever read.
A module whose results every column reads for itself (queries, the way out of attention, the MLP) needs to
see the last columns alone. Which modules those are is found out by trying: one whose results are no numbers
at all columns but the last leaves the model's last column a number. Source: own choice.

Axes: N rows, L tokens, D what a module makes of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_PROBE_TOKENS = 8
_LEAST_COLUMNS = 8  # fewer save nothing more, and LoRA layers would take a prompt for a decoding step


class LastLayer:
    """Narrows the last layer of a model where `only` says so.

    Args:
        body: A causal LM without its head; one without a list of layers stays as it is.

    Attributes:
        narrowed: The modules that see the last columns alone.
    """

    def __init__(self, body: nn.Module) -> None:
        self._columns: int | None = None
        self._left = 0
        stacks = (module for module in body.modules() if isinstance(module, nn.ModuleList) and len(module))
        layers = next(stacks, None)
        self.narrowed = [] if layers is None else list(_read_alone(body, layers[-1]))
        for module in self.narrowed:
            module.register_forward_pre_hook(self._cut)
            module.register_forward_hook(self._padded)

    @contextmanager
    def only(self, columns: int) -> Iterator[None]:
        """Lets the model compute so many of the last columns; its other columns mean nothing meanwhile."""
        self._columns = max(columns, _LEAST_COLUMNS)
        try:
            yield
        finally:
            self._columns = None

    def _cut(self, _: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        x_NLD = given[0]
        self._left = 0 if self._columns is None else max(0, x_NLD.shape[1] - self._columns)
        return (x_NLD[:, self._left :],)

    def _padded(self, _: nn.Module, __: Any, y_NLD: Tensor) -> Tensor:
        return functional.pad(y_NLD, (0, 0, self._left, 0)) if self._left else y_NLD


def _read_alone(body: nn.Module, layer: nn.Module) -> Iterator[nn.Module]:
    """Finds the largest modules of a layer that hold linear layers and may be narrowed."""
    for child in layer.children():
        if not any(isinstance(module, nn.Linear) for module in child.modules()):
            continue
        if _is_read_alone(body, child):
            yield child
        else:
            yield from _read_alone(body, child)


@torch.inference_mode()
def _is_read_alone(body: nn.Module, module: nn.Module) -> bool:
    """Says whether the model's last column stays a number where the module's other columns are none."""
    fits: list[bool] = []

    def spoil(_: nn.Module, given: tuple[Any, ...], result: Any) -> Any:
        fits.append(all(map(_has_columns, (*given, result))) and len(given) == 1)
        if not fits[-1]:
            return result
        return torch.cat([torch.full_like(result[:, :-1], torch.nan), result[:, -1:]], dim=1)

    hook = module.register_forward_hook(spoil)
    try:
        weight = next(body.parameters())
        probe = torch.arange(_PROBE_TOKENS, device=weight.device)[None]
        last_D: Tensor = body(input_ids=probe, use_cache=False).last_hidden_state[0, -1]
    finally:
        hook.remove()
    return bool(fits) and all(fits) and bool(last_D.isfinite().all())


def _has_columns(states: Any) -> bool:
    return isinstance(states, Tensor) and states.ndim == 3 and states.shape[1] == _PROBE_TOKENS
