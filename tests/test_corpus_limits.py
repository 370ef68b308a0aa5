"""Which rows are drawn where only some are wanted."""

from __future__ import annotations

import pytest

from retrieveall.corpus.limits import limited
from retrieveall.errors import InputError


@pytest.mark.parametrize("limit", [0, 1, 7, 99, 100, 101, None])
def test_limited_draws_the_same_rows_every_time_in_their_order(limit: int | None) -> None:
    places = limited(100, limit)

    assert places == limited(100, limit) == sorted(set(places))
    assert len(places) == min(100, 100 if limit is None else limit)
    assert set(places) <= set(range(100))


def test_a_limit_is_no_prefix_and_no_negative_number() -> None:
    assert limited(1000, 20) != list(range(20))
    with pytest.raises(InputError, match="limit of -1"):
        limited(10, -1)
