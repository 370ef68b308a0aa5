import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.errors import ConfigError
from retrieveall.retrieval.neighbourhood import check_sizes, ranked

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30).map(
    lambda values: sorted(values)[::-1]
)


@given(COSINES, st.floats(-3, 3), st.integers(1, 30))
def test_kept_are_those_at_or_above_the_threshold(cosines: list[float], factor: float, at_most: int) -> None:
    values = np.array(cosines, np.float32)
    rows = np.arange(len(values))
    found = ranked(rows, values, rows, candidates=values, at_most=at_most)
    wide = values.astype(np.float64)
    threshold = min(wide.mean() + factor * wide.std(), wide.max())
    for cosine, kept in zip(wide[:at_most], found.survivors(factor), strict=True):
        if abs(cosine - threshold) > 1e-5:
            assert bool(kept) == (cosine > threshold)
    assert found.survivors(factor)[0]  # the best always stays


@given(COSINES)
def test_a_higher_factor_never_keeps_more(cosines: list[float]) -> None:
    values = np.array(cosines, np.float32)
    found = ranked(np.arange(len(values)), values, values.astype(int), candidates=values, at_most=8)
    kept = [int(found.survivors(factor).sum()) for factor in (-2.0, 0.0, 0.5, 1.0, 2.0)]
    assert kept == sorted(kept, reverse=True)


def test_no_candidates() -> None:
    none = np.empty(0, np.float32)
    found = ranked(none.astype(int), none, none.astype(int), candidates=none, at_most=8)
    assert not len(found.survivors(1.0))


@pytest.mark.parametrize(("n", "m"), [(17, 0), (0, 9), (-1, 0)])
def test_more_than_is_stored_cannot_be_asked(n: int, m: int) -> None:
    with pytest.raises(ConfigError, match="at most"):
        check_sizes(n, m)
