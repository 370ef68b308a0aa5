"""Linear layers that add a different LoRA to every row of a batch.

    X' = M ∘ (B ∘ A ∘ X)        RetrieveAll: M (rows x adapters) maps rows to adapters

M is one-hot for selection, weighted for mixture, empty for rows of the base alone. Only its entries
that are not zero are computed. Two ways to do so, chosen by how many tokens a row has:

- long rows (the prompt): one segment per adapter, its rows gathered unless they stand together;
- short rows (decoding): rows in blocks of equal size, one adapter each, and two batched products. The
  blocks' stacked matrices depend on the adapters alone and outlive the rows.

Axes: N rows, L tokens of a row, I inputs, O outputs, R rank, K blocks, G rows of a block.
Limits: inputs are (N, L, I), so layers that mix rows, such as experts, cannot carry an adapter.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from retrieveall.lora.weights import LoraPair, LoraWeights

Stacks = dict[str, tuple[torch.Tensor, torch.Tensor] | None]

_STACKS_KEPT = 4
_BLOCK_MAX_TOKENS = 4  # rows of at most this many tokens go through blocks; measured on one core


@dataclass(frozen=True, kw_only=True, slots=True)
class _Segment:
    """The rows of one adapter: ``(row, weight)``."""

    adapter: LoraWeights
    entries: tuple[tuple[int, float], ...]


class LoraPlan:
    """Which adapters act on which rows, for as long as the batch keeps its rows.

    Args:
        rows: N rows, each with its ``(adapter, weight)`` entries: M without its zeros.
        device: The base's device.
        stacks: Kept from plan to plan.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[tuple[LoraWeights, float]]],
        device: torch.device,
        stacks: AdapterStacks,
    ) -> None:
        by_adapter: dict[int, tuple[LoraWeights, list[tuple[int, float]]]] = {}
        for row, entries in enumerate(rows):
            for adapter, weight in entries:
                by_adapter.setdefault(id(adapter), (adapter, []))[1].append((row, weight))
        self._device = device
        self._stacks = stacks
        self._segments = [
            _Segment(adapter=adapter, entries=tuple(entries)) for adapter, entries in by_adapter.values()
        ]
        self._places = [_Place(segment.entries, len(rows), device) for segment in self._segments]
        self._blocks: _Blocks | None = None

    @property
    def is_empty(self) -> bool:
        """True where every row is of the base alone."""
        return not self._segments

    def add(self, layer: str, x_NLI: torch.Tensor, y_NLO: torch.Tensor) -> torch.Tensor:
        """Adds every row's LoRA of one layer to the base's output, in place, and returns it."""
        if x_NLI.shape[1] <= _BLOCK_MAX_TOKENS and len(self._segments) > 1:
            if self._blocks is None:
                self._blocks = _Blocks(self._segments, self._device, self._stacks)
            if self._blocks.fit:
                return self._blocks.add(layer, x_NLI, y_NLO)
        for segment, place in zip(self._segments, self._places, strict=True):
            pair = segment.adapter.pairs.get(layer)
            if pair is not None:
                place.add(x_NLI, pair.a, pair.b, y_NLO)
        return y_NLO


class _Place:
    """Where the rows of one segment stand in the batch, and their weights."""

    def __init__(self, entries: Sequence[tuple[int, float]], rows: int, device: torch.device) -> None:
        numbers = [row for row, _ in entries]
        together = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        self._slice = slice(numbers[0], numbers[-1] + 1) if together else None
        self._rows = torch.tensor(numbers, device=device)
        weights = [weight for _, weight in entries]
        plain = all(weight == 1.0 for weight in weights)
        self._weights = None if plain else torch.tensor(weights, device=device).view(-1, 1, 1)

    def add(self, x_NLI: torch.Tensor, a_IR: torch.Tensor, b_RO: torch.Tensor, y_NLO: torch.Tensor) -> None:
        chosen = x_NLI.index_select(0, self._rows) if self._slice is None else x_NLI[self._slice]
        low = chosen.reshape(-1, chosen.shape[-1]) @ a_IR
        if self._weights is not None:
            low = (low.view(chosen.shape[0], -1) * self._weights[:, 0].to(low.dtype)).view(low.shape)
        if self._slice is None:
            y_NLO.index_add_(0, self._rows, (low @ b_RO).view(*chosen.shape[:2], -1))
        else:
            y_NLO[self._slice].view(-1, y_NLO.shape[-1]).addmm_(low, b_RO)


class AdapterStacks:
    """Matrices of several adapters in one tensor per layer, kept while the same adapters act together.

    Rows come and go at every step, the adapters that act on them seldom do.

    Args:
        capacity_bytes: Most bytes of all stacks.

    Attributes:
        size_bytes: Bytes of all stacks, with those of layers that have yet to be asked for.
    """

    def __init__(self, capacity_bytes: float = math.inf) -> None:
        self.size_bytes = 0
        self._capacity_bytes = capacity_bytes
        self._kept: OrderedDict[tuple[int, ...], tuple[Stacks, int]] = OrderedDict()

    def of(self, adapters: list[LoraWeights]) -> Stacks | None:
        """Returns the stacks of these adapters, by layer; layers appear as they are asked for.

        None where they need more than all the bytes there are.
        """
        key = tuple(adapter.number for adapter in adapters)
        if key not in self._kept:
            needed_bytes = _stacks_bytes(adapters)
            if needed_bytes > self._capacity_bytes:
                return None
            while self._kept and (
                len(self._kept) >= _STACKS_KEPT or self.size_bytes + needed_bytes > self._capacity_bytes
            ):
                self.size_bytes -= self._kept.popitem(last=False)[1][1]
            self._kept[key] = {}, needed_bytes
            self.size_bytes += needed_bytes
        self._kept.move_to_end(key)
        return self._kept[key][0]


class _Blocks:
    """Rows in K blocks of G places, one adapter per block; places left over repeat row 0 for nothing."""

    def __init__(self, segments: Sequence[_Segment], device: torch.device, stacks: AdapterStacks) -> None:
        # in the order of their ids, so that whoever came first makes no other stack
        segments = sorted(segments, key=lambda segment: id(segment.adapter))
        size = _block_size([len(segment.entries) for segment in segments])
        self._size = size
        self._adapters: list[LoraWeights] = []
        rows: list[int] = []
        weights: list[float] = []
        real: list[int] = []
        for segment in segments:
            for start in range(0, len(segment.entries), size):
                part = segment.entries[start : start + size]
                real += range(len(rows), len(rows) + len(part))
                self._adapters.append(segment.adapter)
                rows += [row for row, _ in part] + [0] * (size - len(part))
                weights += [weight for _, weight in part]
        self._rows = torch.tensor(rows, device=device)
        self._real = None if len(real) == len(rows) else torch.tensor(real, device=device)
        self._targets = self._rows if self._real is None else self._rows[self._real]
        plain = all(weight == 1.0 for weight in weights)
        self._weights = None if plain else torch.tensor(weights, device=device).view(-1, 1, 1)
        stacked = stacks.of(self._adapters)
        self.fit = stacked is not None
        self._stacks: Stacks = {} if stacked is None else stacked

    def add(self, layer: str, x_NLI: torch.Tensor, y_NLO: torch.Tensor) -> torch.Tensor:
        if layer not in self._stacks:
            self._stacks[layer] = _stack([adapter.pairs.get(layer) for adapter in self._adapters])
        stack = self._stacks[layer]
        if stack is None:
            return y_NLO
        a_KIR, b_KRO = stack
        tokens = x_NLI.shape[1]
        chosen = x_NLI.index_select(0, self._rows).view(len(self._adapters), self._size * tokens, -1)
        update = torch.bmm(torch.bmm(chosen, a_KIR), b_KRO).view(len(self._rows), tokens, -1)
        if self._real is not None:
            update = update.index_select(0, self._real)
        if self._weights is not None:
            update = update * self._weights.to(update.dtype)
        return y_NLO.index_add_(0, self._targets, update)


def _block_size(entries: Sequence[int]) -> int:
    """Rows per block: those of the largest segment, unless more than half of all places stayed empty.

    One block per adapter keeps the stacks from depending on how many rows each has.
    """
    largest = max(entries)
    return largest if largest * len(entries) <= 2 * sum(entries) else -(-sum(entries) // len(entries))


def _stack(pairs: Sequence[LoraPair | None]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Stacks matrices; lower ranks and missing pairs are padded with zeros. None where all are missing."""
    present = [pair for pair in pairs if pair is not None]
    if not present:
        return None
    if len(present) == len(pairs) and len({pair.rank for pair in present}) == 1:
        return torch.stack([pair.a for pair in present]), torch.stack([pair.b for pair in present])
    rank = max(pair.rank for pair in present)
    a_KIR = present[0].a.new_zeros(len(pairs), present[0].a.shape[0], rank)
    b_KRO = present[0].b.new_zeros(len(pairs), rank, present[0].b.shape[1])
    for number, pair in enumerate(pairs):
        if pair is not None:
            a_KIR[number, :, : pair.rank] = pair.a
            b_KRO[number, : pair.rank] = pair.b
    return a_KIR, b_KRO


def _stacks_bytes(adapters: Sequence[LoraWeights]) -> int:
    """Bytes of the stacks of all layers: each adapter takes those of the largest at its layer."""
    largest: dict[str, int] = {}
    for adapter in adapters:
        for layer, pair in adapter.pairs.items():
            largest[layer] = max(largest.get(layer, 0), pair.size_bytes)
    return len(adapters) * sum(largest.values())


class Plan(Protocol):
    """What wrapped layers follow: `LoraPlan` in decoding, `TrainingPlan` where adapters are trained."""

    def add(self, layer: str, x_NLI: torch.Tensor, y_NLO: torch.Tensor) -> torch.Tensor:
        """Adds every row's LoRA of one layer to the base's output, in place, and returns it."""
        ...


class LoraSwitch:
    """Tells all wrapped layers of one model which plan the running batch follows; None is the base."""

    def __init__(self) -> None:
        self.plan: Plan | None = None


class LoraLinear(nn.Module):
    """A frozen linear layer of the base that adds the running batch's adapters.

    Args:
        base: The layer as it was.
        name: Its name in the base, as adapters spell it.
        switch: The model's switch.
    """

    def __init__(self, base: nn.Linear, name: str, switch: LoraSwitch) -> None:
        super().__init__()
        self.base = base
        self._name = name
        self._switch = switch

    @property
    def weight(self) -> torch.Tensor:
        """The base's weight; some models look at its data type."""
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The base's bias."""
        return self.base.bias

    def forward(self, x_NLI: torch.Tensor) -> torch.Tensor:
        """Runs the layer for rows (N, L, I)."""
        y_NLO = functional.linear(x_NLI, self.base.weight, self.base.bias)
        plan = self._switch.plan
        return y_NLO if plan is None else plan.add(self._name, x_NLI, y_NLO)


def attach_lora(model: nn.Module, *, skip: nn.Module | None) -> tuple[LoraSwitch, dict[str, tuple[int, int]]]:
    """Wraps every linear layer of a model in place.

    Args:
        model: The base.
        skip: The output head, which stays as it is.

    Returns:
        The switch, and per layer name its (inputs, outputs), as `load_lora` wants them.
    """
    switch = LoraSwitch()
    shapes: dict[str, tuple[int, int]] = {}
    for parent_name, parent in list(model.named_modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child is not skip:
                name = f"{parent_name}.{child_name}" if parent_name else child_name
                setattr(parent, child_name, LoraLinear(child, name, switch))
                shapes[name] = (child.in_features, child.out_features)
    return switch, shapes
