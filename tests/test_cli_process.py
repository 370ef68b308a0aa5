"""Ray is started again where a busy machine was too slow for it, and only then."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import ray

from retrieveall.cli import process
from retrieveall.errors import ConfigError

SLOW = Exception("The current node timed out during startup. This could happen because …")
LATE = RuntimeError("Timed out waiting for file /tmp/ray/…/gcs_server_port")


def starts(monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> list[dict[str, Any]]:
    """Lets `ray.init` end in these ways, one after the other; returns the list of its calls."""
    calls: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        calls.append(options)
        outcome = outcomes[len(calls) - 1]
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(ray, "init", init)
    return calls


def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starts(monkeypatch, SLOW, LATE, None)
    process._start_ray(address="local")
    assert calls == [{"address": "local"}] * 3


def test_a_start_that_stays_slow_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starts(monkeypatch, SLOW, SLOW, SLOW)
    with pytest.raises(Exception, match="timed out during startup"):
        process._start_ray(address="local")
    assert len(calls) == 3


def test_another_error_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starts(monkeypatch, ConnectionError("no cluster there"), None)
    with pytest.raises(ConnectionError, match="no cluster"):
        process._start_ray(address="10.0.0.1:6379")
    assert len(calls) == 1


@pytest.mark.parametrize(("address", "ours"), [("", True), ("10.0.0.1:6379", False)])
def test_a_cluster_is_not_ours(monkeypatch: pytest.MonkeyPatch, address: str, ours: bool) -> None:
    calls = starts(monkeypatch, None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with process.ray_running() as ray_is_ours:
        assert ray_is_ours is ours
    assert len(calls) == 1


def test_a_ray_that_runs_already_is_used_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = starts(monkeypatch)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("it is not ours to end"))
    with process.ray_running() as ray_is_ours:
        assert ray_is_ours is False
    assert not calls


def test_a_threshold_that_no_c_int_holds_is_the_largest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        given: ClassVar[list[int]] = []

        def __init__(self, name: None) -> None:
            pass

        def mallopt(self, parameter: int, value: int) -> None:
            self.given.append(value)

    monkeypatch.setattr("ctypes.CDLL", Libc)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4294967296")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1073741824")
    process.keep_pages()
    assert Libc.given == [2**31 - 1, 2**30]


@pytest.mark.parametrize(("wanted", "there", "given"), [(None, 0.0, 0.0), (None, 4.0, 1.0), (0.5, 1.0, 0.5)])
def test_gpus(monkeypatch: pytest.MonkeyPatch, wanted: float | None, there: float, given: float) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": there})
    assert process.gpus_wanted(wanted) == given


def test_gpus_that_this_machine_lacks_are_an_error_and_a_cluster_may_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="1 GPUs were asked for, this machine has 0"):
        process.gpus_wanted(1.0)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert process.gpus_wanted(1.0) == 1.0
