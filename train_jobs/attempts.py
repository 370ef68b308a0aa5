"""Attempts at a run of Ray Train: which failures are worth another one, and what a failure says.

Ray Train restarts its workers whatever they died of. Here a run goes on from its last checkpoint only
where a process, a machine or a network failed; a mistake in data, settings or code, which would come
again, ends it at once. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ray.exceptions import RayTaskError
from ray.train import Result, WorkerGroupError
from ray.train.torch import TorchTrainer

from retrieveall.errors import RetrieveAllError, causes, original_error

_MISTAKES: Final = (
    RetrieveAllError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    NameError,
    NotImplementedError,
)


def fit(new_trainer: Callable[[], TorchTrainer], *, max_failures: int) -> Result:
    """Trains to the end, in several attempts where workers die.

    Args:
        new_trainer: Makes a trainer of the same run name and storage, so that it goes on from the run's last
            checkpoint; it must not retry by itself.
        max_failures: Most attempts after the first.

    Raises:
        WorkerGroupError: The run failed too often, or by a mistake.
    """
    for _ in range(max_failures):
        try:
            return new_trainer().fit()
        except WorkerGroupError as error:
            # one worker's mistake lets the others fail in other ways
            if any(map(is_mistake, error.worker_failures.values())):
                raise
    return new_trainer().fit()


def is_mistake(error: BaseException) -> bool:
    """Tells whether a worker's failure would come again."""
    return isinstance(error.cause if isinstance(error, RayTaskError) else error, _MISTAKES)


def reason(error: BaseException) -> str:
    """Returns the user's mistake rather than Ray's account of it, with the name of its class."""
    for link in causes(error):
        if failures := getattr(link, "worker_failures", None):
            return reason(_telling(failures.values()))
        if isinstance(link, RetrieveAllError):
            break
    origin = original_error(error)
    return f"{type(origin).__name__}: {origin}".strip()


def _telling(failures: Iterable[BaseException]) -> BaseException:
    """Returns the failure of a group that tells most: the first mistake, where one was made."""
    failures = list(failures)
    return next(filter(is_mistake, failures), failures[0])
