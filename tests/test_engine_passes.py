"""Passes hold each row once and cost no more than any others would."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from retrieveall.engine.passes import pass_cost, passes


@given(
    lengths=st.lists(st.integers(1, 60), max_size=40),
    max_tokens=st.integers(1, 200),
    cost=st.integers(0, 300),
)
def test_passes_hold_each_row_once_within_their_tokens(
    lengths: list[int], max_tokens: int, cost: int
) -> None:
    found = passes(lengths, max_tokens, cost)
    assert sorted(index for chosen in found for index in chosen) == list(range(len(lengths)))
    for chosen in found:
        assert chosen == sorted(chosen)
        assert len(chosen) == 1 or len(chosen) * max(lengths[index] for index in chosen) <= max_tokens
    longest = [max(lengths[index] for index in chosen) for chosen in found]
    assert longest == sorted(longest, reverse=True)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9),
    max_tokens=st.integers(1, 120),
    cost=st.integers(0, 100),
)
def test_passes_cost_no_more_than_any_other_cut(lengths: list[int], max_tokens: int, cost: int) -> None:
    def cuts(rest: list[int]) -> Iterator[list[list[int]]]:
        if not rest:
            yield []
        for size in range(1, len(rest) + 1):
            if size == 1 or size * rest[0] <= max_tokens:
                yield from ([rest[:size], *others] for others in cuts(rest[size:]))

    def tokens(groups: list[list[int]]) -> int:
        return sum(len(group) * max(group) + cost for group in groups)

    found = [[lengths[index] for index in chosen] for chosen in passes(lengths, max_tokens, cost)]
    assert tokens(found) == min(map(tokens, cuts(sorted(lengths, reverse=True))))


def test_off_a_cpu_passes_are_as_few_as_can_be() -> None:
    lengths, most = [20, 100, 20], 400
    assert passes(lengths, most, pass_cost("cpu", most)) == [[1], [0, 2]]
    assert passes(lengths, most, pass_cost("cuda", most)) == [[0, 1, 2]]
