"""Keys and values of the rows under way: one slot per row, one column per position of its text.

A row's token at position p stands in column p of the row's slot, whatever its neighbours do, so rows
of any length join and leave at any step and no step leaves holes. Buffers change their size only when
rows join, to what these may need until their last token; the rows that come later use them again.
After an unusually long row they shrink. Sliding-window layers are kept whole: the mask hides what
lies outside the window.

Axes: N rows of a step, L tokens of each, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_COLUMNS_STEP = 64
_WIDE_JOINS = 16  # so many joins in a row that need half the columns or less, and the rest is given back


@dataclass(frozen=True, kw_only=True, slots=True)
class KvLimit:
    """How much the cache may hold.

    Attributes:
        limit_bytes: Most bytes.
        token_bytes: Bytes of one token's keys and values in all layers.
        buffers: Tensors they are spread over, two per layer.
    """

    limit_bytes: int
    token_bytes: int
    buffers: int

    def needed_bytes(self, rows: int, tokens: int) -> int:
        """Returns the bytes that rows of so many tokens take at most.

        A buffer that changes its size is there twice while it is copied, one at a time.
        """
        held_bytes = rows * columns_of(tokens) * self.token_bytes
        return held_bytes + -(-held_bytes // self.buffers)

    def fits(self, rows: int, tokens: int) -> bool:
        """Says whether rows of at most so many tokens each may stand in the cache together."""
        return self.needed_bytes(rows, tokens) <= self.limit_bytes


def columns_of(tokens: int) -> int:
    """Returns the columns of a slot for so many tokens: one more for padding, then rounded up."""
    return -(-(tokens + 1) // _COLUMNS_STEP) * _COLUMNS_STEP


class Places:
    """Where the running step writes, and what it reads; one object that all layers look at.

    Attributes:
        slots: Slots of every buffer.
        columns: Columns of every slot.
        first_slot: The step's rows are in the slots from here on.
        columns_NL: Column of each token; padding goes to `TRASH`.
        width: Columns read.
    """

    def __init__(self) -> None:
        self.slots = 0
        self.columns = 0
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
            self._buffers = [self._zeros(states) for states in (key_states, value_states)]
        rows = torch.arange(slots.start, slots.stop, device=key_states.device)[:, None]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.transpose(1, 2)[rows, places.columns_NL] = states.transpose(1, 2)
        self.keys, self.values = (buffer[slots, :, 1 : places.width + 1] for buffer in self._buffers)
        return self.keys, self.values

    def _zeros(self, like: Tensor) -> Tensor:
        # zeros: a column nobody wrote must not hold the NaN that a masked product would spread
        return like.new_zeros(self._places.slots, like.shape[1], self._places.columns, like.shape[3])

    def resize(self, live: int) -> None:
        """Gives the buffers the size that their places say; the first slots keep what they hold.

        Args:
            live: So many of them.
        """
        self.keys = self.values = None  # views that would keep the old buffers
        for number in range(len(self._buffers)):
            new = self._zeros(self._buffers[number])
            columns = min(new.shape[2], self._buffers[number].shape[2])
            new[:live, :, :columns] = self._buffers[number][:live, :, :columns]
            self._buffers[number] = new

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

    Args:
        limit: How much it may hold; None where nobody knows yet what a token takes.

    Attributes:
        places: What the next step does; set before every forward pass.
    """

    def __init__(self, limit: KvLimit | None = None) -> None:
        self.places = Places()
        self._limit = limit
        self._wide_joins = 0
        super().__init__(layer_class_to_replicate=self._new_layer)  # type: ignore[arg-type]

    def _new_layer(self, *_: Any, **__: Any) -> _SlotLayer:
        return _SlotLayer(self.places)

    def reserve(self, rows: int, tokens: int, *, live: int) -> None:
        """Makes sure of slots for rows, each of at most so many tokens.

        Args:
            rows: All rows from the next step on; they fit the limit.
            tokens: Most tokens that any of them may have.
            live: The first slots hold rows already, so many.
        """
        places, needed = self.places, columns_of(tokens)
        self._wide_joins = self._wide_joins + 1 if places.columns >= 2 * needed else 0
        slots = max(rows, places.slots)
        columns = needed if self._wide_joins >= _WIDE_JOINS else max(needed, places.columns)
        if self._limit is not None and not self._limit.fits(slots, columns - 1):
            slots, columns = rows, needed
        if (slots, columns) == (places.slots, places.columns):
            return
        self._wide_joins = 0
        places.slots, places.columns = slots, columns
        for layer in self._slot_layers():
            layer.resize(live)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Moves a row that has seen so many tokens to a free slot."""
        for layer in self._slot_layers():
            layer.move(source, target, tokens)

    @property
    def size_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(layer.size_bytes for layer in self._slot_layers())

    def limit(self, limit_bytes: int) -> KvLimit:
        """Returns a limit for caches like this one, which holds a token already."""
        places, layers = self.places, self._slot_layers()
        token_bytes = self.size_bytes // (places.slots * places.columns)
        return KvLimit(limit_bytes=limit_bytes, token_bytes=token_bytes, buffers=2 * len(layers))

    def _slot_layers(self) -> list[_SlotLayer]:
        return [layer for layer in self.layers if isinstance(layer, _SlotLayer)]
