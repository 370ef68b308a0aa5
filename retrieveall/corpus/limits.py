"""Which rows stand for a corpus where only some are wanted."""

from __future__ import annotations

import random

from retrieveall.errors import InputError

_SEED = 13


def limited(count: int, limit: int | None) -> list[int]:
    """Returns the places of at most ``limit`` rows, drawn the same way every time, in their order.

    Raises:
        InputError: The limit is negative.
    """
    if limit is not None and limit < 0:
        raise InputError(f"A limit of {limit} sentences was given; expected none, or 0 and more.")
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(random.Random(_SEED).sample(range(count), limit))
