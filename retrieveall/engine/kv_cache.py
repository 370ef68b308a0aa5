"""Keys and values of one batch in buffers that grow rarely.

transformers' `DynamicCache` copies every layer's whole cache at every step; here a step writes its few
columns in place. Sliding-window layers are kept whole: the mask hides what lies outside the window.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_GROWTH_TOKENS = 32


class _BufferLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers' cache is not annotated
    """One layer: ``keys`` and ``values`` are views (rows, heads, tokens so far, head size) of buffers."""

    def __init__(self, **_: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: list[torch.Tensor] = []
        self._tokens = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends the columns of one step and returns all so far."""
        before, after = self._tokens, self._tokens + key_states.shape[-2]
        if not self._buffers:
            self._buffers = [_buffer(new, after + _GROWTH_TOKENS) for new in (key_states, value_states)]
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        if after > self._buffers[0].shape[-2]:
            self._buffers = [_grown(old, before, after + _GROWTH_TOKENS) for old in self._buffers]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., before:after, :] = new
        self._tokens = after
        self.keys, self.values = (buffer[..., :after, :] for buffer in self._buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Returns the tokens so far."""
        return self._tokens

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps some rows."""
        if self._buffers:
            self._buffers = [buffer.index_select(0, indices) for buffer in self._buffers]


def _buffer(like: torch.Tensor, tokens: int) -> torch.Tensor:
    """Zeros: a column nobody wrote must not hold the NaN that a masked product would spread."""
    return like.new_zeros(*like.shape[:-2], tokens, like.shape[-1])


def _grown(old: torch.Tensor, used: int, tokens: int) -> torch.Tensor:
    new = _buffer(old, tokens)
    new[..., :used, :] = old[..., :used, :]
    return new


def new_cache() -> Any:
    """Returns an empty cache; layers appear as the model uses them."""
    return Cache(layer_class_to_replicate=_BufferLayer)
