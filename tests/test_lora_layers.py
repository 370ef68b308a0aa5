from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrieveall.lora.layers import AdapterStacks, LoraPlan, attach_lora
from retrieveall.lora.weights import LoraPair, LoraWeights

INPUTS, OUTPUTS = 6, 5
CPU = torch.device("cpu")


def adapter(rank: int, seed: int, layers: tuple[str, ...] = ("0",)) -> LoraWeights:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return LoraWeights(pairs={name: LoraPair(a=draw(INPUTS, rank), b=draw(rank, OUTPUTS)) for name in layers})


ADAPTERS = [adapter(1, 0), adapter(4, 1), adapter(3, 2), adapter(4, 3, layers=("another",))]

entries = st.lists(
    st.tuples(st.integers(0, len(ADAPTERS) - 1), st.sampled_from([1.0, 0.5, -2.0])),
    max_size=3,
    unique_by=lambda entry: entry[0],
)


@given(
    rows=st.lists(entries, min_size=1, max_size=9),
    tokens=st.sampled_from([1, 3, 8, 9, 20]),
    stack_bytes=st.sampled_from([math.inf, 700, 0]),
)
@settings(max_examples=150, deadline=None)
def test_every_row_gets_its_own_sum(
    rows: list[list[tuple[int, float]]], tokens: int, stack_bytes: float
) -> None:
    """M ∘ (B ∘ A ∘ X), row by row, whatever ranks, weights, orders, gaps and memory the batch has."""
    model = nn.Sequential(nn.Linear(INPUTS, OUTPUTS).double())
    plain = model[0]
    switch, shapes = attach_lora(model, skip=None)
    assert shapes == {"0": (INPUTS, OUTPUTS)}
    x = torch.randn(
        len(rows), tokens, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(9)
    )
    switch.plan = LoraPlan(
        [[(ADAPTERS[which], weight) for which, weight in row] for row in rows],
        CPU,
        AdapterStacks(stack_bytes),
    )
    with torch.no_grad():
        found = model(x)
        for number, row in enumerate(rows):
            expected = plain(x[number])
            for which, weight in row:
                pair = ADAPTERS[which].pairs.get("0")
                if pair is not None:
                    expected = expected + weight * (x[number] @ pair.a @ pair.b)
            torch.testing.assert_close(found[number], expected)


def test_without_a_plan_the_base_is_unchanged() -> None:
    model = nn.Sequential(nn.Linear(INPUTS, OUTPUTS))
    plain = model[0]
    switch, _ = attach_lora(model, skip=None)
    x = torch.randn(2, 3, INPUTS)
    assert switch.plan is None
    assert torch.equal(model(x), plain(x))
    assert LoraPlan([[], []], CPU, AdapterStacks()).is_empty


def test_the_output_head_stays() -> None:
    model = nn.Sequential(nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, OUTPUTS))
    head = model[1]
    _, shapes = attach_lora(model, skip=head)
    assert model[1] is head
    assert list(shapes) == ["0"]


def test_stacks_are_kept_within_their_bytes() -> None:
    """Two adapters of rank 4 and 3 take 2 x 4 x (6 + 5) numbers."""
    stacks = AdapterStacks(2 * 704)
    first = stacks.of(ADAPTERS[1:3])
    assert first is not None and stacks.of(ADAPTERS[1:3]) is first
    assert stacks.size_bytes == 704
    stacks.of(ADAPTERS[:2])
    assert stacks.size_bytes == 2 * 704
    stacks.of([ADAPTERS[0], ADAPTERS[2]])  # of rank 3; the oldest goes
    assert stacks.size_bytes == 704 + 528
    assert stacks.of([*ADAPTERS[:3], ADAPTERS[1], ADAPTERS[2]]) is None
