"""Cutting rows into passes of near lengths, in decoding and in training.

Rows of one pass are padded to the longest. More passes pad less, but each costs something by itself.
Source: own choice.
"""

from __future__ import annotations

from collections.abc import Sequence

_CPU_TOKENS = 48


def pass_cost(device: str, most_tokens: int) -> int:
    """Returns as many tokens as one more pass costs: few on a CPU; elsewhere nobody measured it yet.

    Args:
        device: Its type as torch spells it.
        most_tokens: Of a pass; what is returned where passes shall be as few as can be.
    """
    return _CPU_TOKENS if device == "cpu" else most_tokens


def passes(lengths: Sequence[int], max_tokens: int, cost: int) -> list[list[int]]:
    """Cuts rows into passes such that padding and passes together cost least.

    Args:
        lengths: Tokens of each row.
        max_tokens: Most tokens of a pass, padding counted; one row alone may have more.
        cost: As many tokens as one more pass costs, see `pass_cost`.

    Returns:
        Row indices of each pass, each in ascending order: rows of close lengths, the longest first.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cheapest = [(0, 0)]  # of the first n rows, all n: what they cost, and where the last pass begins
    for end in range(1, len(order) + 1):
        options: list[tuple[int, int]] = []
        for start in reversed(range(end)):
            tokens = (end - start) * lengths[order[start]]
            if options and tokens > max_tokens:
                break
            options.append((cheapest[start][0] + tokens + cost, start))
        cheapest.append(min(options))
    groups: list[list[int]] = []
    end = len(order)
    while end:
        start = cheapest[end][1]
        groups.append(sorted(order[start:end]))
        end = start
    return groups[::-1]
