"""Which failures of a run are tried again, and which message reaches the user; Ray is not started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import WorkerGroupError

from retrieveall.errors import ConflictError, InputError
from train_jobs.attempts import fit, is_mistake, reason


class Wrapper(Exception):
    def __init__(
        self, *, cause: Exception | None = None, failures: dict[int, Exception] | None = None
    ) -> None:
        super().__init__("Ray's account of it")
        if cause is not None:
            self.cause = cause
        if failures is not None:
            self.worker_failures = failures


MISTAKE = InputError("No training sentences. Import some.")


@pytest.mark.parametrize(
    "error",
    [
        MISTAKE,
        Wrapper(cause=MISTAKE),
        Wrapper(failures={0: MISTAKE}),
        Wrapper(cause=Wrapper(failures={1: Wrapper(cause=MISTAKE)})),
    ],
    ids=["itself", "cause", "worker", "nested"],
)
def test_the_reason_is_the_innermost_error(error: Exception) -> None:
    assert reason(error) == "InputError: No training sentences. Import some."


def test_the_reason_stops_at_what_was_raised_on_purpose() -> None:
    chained = InputError("No training sentences.")
    chained.__cause__ = KeyError("x")

    assert reason(chained) == "InputError: No training sentences."
    assert reason(OSError("disk full")) == "OSError: disk full"


def test_the_reason_is_ours_also_where_rays_wrapper_looks_like_one_of_ours() -> None:
    wrapper = in_task(MISTAKE).as_instanceof_cause()  # as ray.get raises it
    assert isinstance(wrapper, InputError)
    assert reason(wrapper) == reason(MISTAKE)


def test_the_reason_is_the_mistake_that_made_the_others_fail() -> None:
    assert reason(Wrapper(failures={0: RuntimeError("connection closed"), 1: MISTAKE})) == reason(MISTAKE)


CRASH = ActorDiedError()


def in_task(cause: Exception) -> Any:
    """The error as Ray hands it on from a remote task."""
    return RayTaskError("task", "its traceback", cause)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MISTAKE, True),
        (ConflictError("taken"), True),
        (pa.ArrowInvalid("not a parquet file"), True),
        (KeyError("x"), True),
        (ZeroDivisionError("by zero"), True),
        (in_task(MISTAKE), True),
        (in_task(OSError("no route")), False),
        (CRASH, False),
        (OSError("disk full"), False),
        (RuntimeError("NCCL error"), False),
    ],
    ids=str,
)
def test_what_would_come_again_is_a_mistake(error: Exception, expected: bool) -> None:
    assert is_mistake(error) is expected


def trainers(*failures: dict[int, Exception]) -> tuple[Callable[[], Any], list[int]]:
    """Makes trainers of which the first ones fail; the list grows by one with each attempt."""
    tried: list[int] = []

    class Trainer:
        def fit(self) -> str:
            tried.append(len(tried))
            if len(tried) <= len(failures):
                raise WorkerGroupError("a worker failed", failures[len(tried) - 1])
            return "trained"

    return Trainer, tried


def test_a_run_whose_workers_die_is_taken_up_again() -> None:
    new_trainer, tried = trainers({0: CRASH}, {0: OSError("no route")})

    result: Any = fit(new_trainer, max_failures=2)
    assert result == "trained"
    assert len(tried) == 3


def test_a_run_that_dies_too_often_fails() -> None:
    new_trainer, tried = trainers({0: CRASH}, {0: CRASH})

    with pytest.raises(WorkerGroupError):
        fit(new_trainer, max_failures=1)
    assert len(tried) == 2


@pytest.mark.parametrize("failures", [{0: MISTAKE}, {0: RuntimeError("connection closed"), 1: MISTAKE}])
def test_a_mistake_is_not_made_twice(failures: dict[int, Exception]) -> None:
    new_trainer, tried = trainers(failures)

    with pytest.raises(WorkerGroupError):
        fit(new_trainer, max_failures=2)
    assert len(tried) == 1
