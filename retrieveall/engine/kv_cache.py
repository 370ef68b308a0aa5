"""Keys and values of the rows under way: one slot per row, one column per position of its text.

A row's token at position p stands in column p of the row's slot, whatever its neighbours do, so rows
of any length join and leave at any step and no step leaves holes. Buffers grow rarely and are
used again by the rows that come later. Sliding-window layers are kept whole: the mask hides what lies
outside the window.

Axes: N rows of a step, L tokens of each, C columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_GROWTH_TOKENS = 64


class Places:
    """Where the running step writes, and what it reads; one object that all layers look at.

    Attributes:
        first_slot: The step's rows are in the slots from here on.
        columns_NL: Column of each token; padding goes to `TRASH`.
        width: Columns read.
    """

    def __init__(self) -> None:
        self.first_slot = 0
        self.columns_NL = torch.zeros(0, 0, dtype=torch.long)
        self.width = 0


TRASH = 0
"""The column of padding. Buffers hold position p in column p + 1, so that nobody reads it."""


class _SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers' cache is not annotated
    """One layer's keys and values, (slots, heads, columns, head size) each."""

    def __init__(self, places: Places) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = places
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Writes the tokens of one step and returns all columns that its rows may look at."""
        places = self._places
        slots = slice(places.first_slot, places.first_slot + key_states.shape[0])
        if not self._buffers:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._buffers = [states.new_zeros(0, 0, 0, 0) for states in (key_states, value_states)]
        rows = torch.arange(slots.start, slots.stop, device=key_states.device)[:, None]
        for number, states in enumerate((key_states, value_states)):
            buffer = self._room(number, states, slots.stop)
            buffer.transpose(1, 2)[rows, places.columns_NL] = states.transpose(1, 2)
        self.keys, self.values = (buffer[slots, :, 1 : places.width + 1] for buffer in self._buffers)
        return self.keys, self.values

    def _room(self, number: int, states: Tensor, slots: int) -> Tensor:
        old = self._buffers[number]
        columns = self._places.width + 1
        if slots > old.shape[0] or columns > old.shape[2]:
            # zeros: a column nobody wrote must not hold the NaN that a masked product would spread
            new = states.new_zeros(
                max(slots, old.shape[0]),
                states.shape[1],
                max(-(-columns // _GROWTH_TOKENS) * _GROWTH_TOKENS, old.shape[2]),
                states.shape[3],
            )
            if old.numel():
                new[: old.shape[0], :, : old.shape[2]] = old
            self._buffers[number] = new
        return self._buffers[number]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first columns of one slot to another."""
        for buffer in self._buffers:
            buffer[target, :, : tokens + 1] = buffer[source, :, : tokens + 1]

    @property
    def size_bytes(self) -> int:
        """Bytes of both buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def get_seq_length(self) -> int:
        """Returns the columns that the running step reads."""
        return self._places.width


class SlotCache(Cache):
    """The cache that the model's layers write through; layers appear as the model uses them.

    Attributes:
        places: What the next step does; set before every forward pass.
    """

    def __init__(self) -> None:
        self.places = Places()
        super().__init__(layer_class_to_replicate=self._new_layer)  # type: ignore[arg-type]

    def _new_layer(self, *_: Any, **__: Any) -> _SlotLayer:
        return _SlotLayer(self.places)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Moves a row that has seen so many tokens to a free slot."""
        for layer in self._slot_layers():
            layer.move(source, target, tokens)

    @property
    def size_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(layer.size_bytes for layer in self._slot_layers())

    def _slot_layers(self) -> list[_SlotLayer]:
        return [layer for layer in self.layers if isinstance(layer, _SlotLayer)]
