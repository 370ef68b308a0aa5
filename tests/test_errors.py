"""What is told of an error that others wrapped."""

from __future__ import annotations

from itertools import pairwise

import pytest

from retrieveall.errors import ConfigError, InputError, RetrieveAllError, original_error
from tests.test_train_jobs_attempts import in_task

OURS = InputError("No sentences. Import some.")


def chained(*errors: Exception) -> Exception:
    """Returns the first error, each caused by the next."""
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    "error",
    [
        OURS,
        in_task(OURS),
        in_task(OURS).as_instanceof_cause(),
        in_task(in_task(OURS)),
        chained(RuntimeError("job failed"), OSError("worker failed"), in_task(OURS)),
    ],
    ids=["itself", "task", "as ray.get raises it", "task in task", "caused by"],
)
def test_ours_is_found_below_what_wraps_it(error: Exception) -> None:
    assert original_error(error) is OURS


def test_of_two_of_ours_the_outer_one_has_the_advice() -> None:
    advice = ConfigError("The base cannot be opened. Put it back.")
    assert original_error(chained(advice, InputError("no such file"))) is advice


def test_what_is_not_ours_is_only_unwrapped() -> None:
    outer = OSError("disk full")
    assert original_error(chained(outer, KeyError("x"))) is outer
    assert original_error(in_task(outer)) is outer


def test_an_error_that_is_its_own_cause_ends() -> None:
    error = OSError("round and round")
    error.__cause__ = error
    assert original_error(error) is error
    assert not isinstance(error, RetrieveAllError)
