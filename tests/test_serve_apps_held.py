"""Which releases a replica keeps open, and how it follows new ones."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import pytest

from serve_apps.held import Follower, HeldReleases
from serve_apps.opened import ReleaseSource


@dataclass
class Numbers:
    """A source whose newest release is set by the test."""

    number: int = 1
    pinned: int | None = None
    broken: set[int] = field(default_factory=set)

    def newest(self) -> int:
        return self.number

    def candidates(self) -> tuple[int, ...]:
        return (self.number, self.number - 1)

    def open_one(self, number: int, last: str | None) -> str:
        if number in self.broken:
            raise ValueError(f"release {number} is broken")
        return f"{number} after {last}"

    @property
    def source(self) -> ReleaseSource:
        return cast(ReleaseSource, self)


def test_the_two_asked_for_last_are_held_and_others_opened_again() -> None:
    held = HeldReleases(Numbers().open_one)
    assert [held.get(1), held.get(2)] == ["1 after None", "2 after 1 after None"]
    assert held.get(1) == "1 after None"

    held.get(3)
    assert held.numbers == (1, 3)
    assert held.get(2).startswith("2 after 3 after 1")


def test_many_requests_for_one_release_open_it_once() -> None:
    opened: list[int] = []
    together = threading.Barrier(4)

    def open_one(number: int, _: None) -> None:
        opened.append(number)
        time.sleep(0.05)

    held = HeldReleases[None](open_one)

    def ask(_: int) -> None:
        together.wait()
        held.get(7)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert opened == [7]


def test_a_replica_starts_with_the_release_before_a_broken_one() -> None:
    numbers = Numbers(number=5, broken={5})
    held = HeldReleases(numbers.open_one)
    held.open_first(numbers.source)
    assert held.numbers == (4,)

    numbers.broken = {4, 5}
    with pytest.raises(ValueError, match="release 4"):
        HeldReleases(numbers.open_one).open_first(numbers.source)


def test_a_follower_opens_what_is_new_and_outlives_what_is_broken() -> None:
    numbers = Numbers(broken={2})
    held = HeldReleases(numbers.open_one)
    follower = Follower(numbers.source, held, every_s=0.01)
    for number in (2, 3):
        numbers.number = number
        wait_for(lambda number=number: follower._seen == number)
    wait_for(lambda: held.numbers == (3,))
    follower.stop()


def wait_for(is_so: object, timeout_s: float = 20.0) -> None:
    assert callable(is_so)
    until_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until_s, "it did not come"
        time.sleep(0.01)
