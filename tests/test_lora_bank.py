from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import MemoryLimitError, NotFoundError
from retrieveall.lora.bank import AdapterBank, Keys, Standing, adapter_keys
from retrieveall.lora.weights import LoraPair, LoraWeights, fused

WAIT_S = 20.0
HELD, COMING, NO_ROOM = Standing.HELD, Standing.COMING, Standing.NO_ROOM


class Shelf:
    """Adapters of 8 bytes per rank: "a3" has rank 3. Each load waits for its gate, where there is one."""

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.gates: dict[str, threading.Event] = {}

    def size_bytes(self, digest: str) -> int:
        return 8 * int(digest[1:])

    def load(self, digest: str) -> LoraWeights:
        self.loads[digest] += 1
        if digest in self.gates:
            assert self.gates[digest].wait(WAIT_S)
        if digest in self.broken:
            raise NotFoundError(digest)
        rank = int(digest[1:])
        return LoraWeights(pairs={"layer": LoraPair(a=torch.ones(1, rank), b=torch.ones(rank, 1))})


class Desk:
    """A bank of 48 bytes and what it told."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.failures: list[tuple[frozenset[str], Exception]] = []
        self.bank = AdapterBank(
            self.shelf,
            48,
            on_failure=lambda digests, error: self.failures.append((digests, error)),
            on_change=lambda: None,
        )

    def hold(self, *digests: str) -> None:
        """Has adapters loaded for a row."""
        until(lambda: self.bank.plan([digests]) == [HELD])


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.bank.close()


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.0005)


def test_those_who_want_an_adapter_share_one_load(desk: Desk) -> None:
    desk.shelf.gates["a1"] = gate = threading.Event()
    wanted: list[Keys] = [("a1",), ("a1", "b1"), ("b1",)]
    assert desk.bank.plan(wanted) == [COMING] * 3
    until(lambda: desk.shelf.loads["a1"] == 1)
    assert desk.bank.plan(wanted) == [COMING] * 3
    assert desk.bank.digests == ()
    gate.set()
    until(lambda: desk.bank.plan(wanted) == [HELD] * 3)
    assert desk.shelf.loads == {"a1": 1, "b1": 1}
    assert desk.bank.size_bytes == 16


def test_the_one_used_longest_ago_goes(desk: Desk) -> None:
    desk.hold("a2", "b2", "c2")
    for digest in ("a2", "c2", "b2", "a2"):
        assert desk.bank.acquire((digest,)) is not None
    desk.bank.release_all()
    desk.hold("d1")
    assert desk.bank.digests == ("b2", "a2", "d1")


def test_what_a_row_uses_stays(desk: Desk) -> None:
    desk.hold("a4")
    for _ in range(2):
        assert desk.bank.acquire(("a4",)) is not None
    until(lambda: desk.bank.plan([("b4",)]) == [NO_ROOM])
    desk.bank.release([("a4",)])
    assert desk.bank.plan([("b4",)]) == [NO_ROOM]  # the other row
    desk.bank.release([("a4",)])
    desk.hold("b4")
    assert desk.bank.digests == ("b4",)
    assert desk.bank.acquire(("a4",)) is None


def test_those_later_in_turn_do_not_drive_out_those_before(desk: Desk) -> None:
    desk.hold("a4")
    until(lambda: desk.bank.plan([("a4",), ("b4",)]) == [HELD, NO_ROOM])
    assert desk.bank.plan([("b4",), ("a4",)]) == [COMING, HELD]
    until(lambda: desk.bank.plan([("b4",), ("a4",)]) == [HELD, NO_ROOM])


def test_nothing_is_loaded_for_a_row_that_would_still_have_no_room(desk: Desk) -> None:
    desk.hold("a3")
    assert desk.bank.acquire(("a3",)) is not None
    until(lambda: desk.bank.plan([("b2", "c2")]) == [NO_ROOM])
    desk.hold("d3")
    assert set(desk.shelf.loads) == {"a3", "d3"}


def test_errors_are_told_and_not_kept(desk: Desk) -> None:
    desk.shelf.broken = {"a1"}
    assert desk.bank.plan([("a1",), ("b1",)]) == [COMING, COMING]
    until(lambda: desk.bank.digests == ("b1",))
    assert [digests for digests, _ in desk.failures] == [{"a1"}]
    assert isinstance(desk.failures[0][1], NotFoundError)
    assert desk.bank.size_bytes == 8
    desk.shelf.broken = set()
    desk.hold("a1")


def test_adapters_that_never_fit_are_refused_with_the_numbers(desk: Desk) -> None:
    desk.hold("a4")
    desk.hold("b4")  # so that their sizes are known
    desk.bank.plan([("a4", "b4"), ("c1",)])
    until(lambda: desk.bank.digests == ("b4", "c1"))
    digests, error = desk.failures[0]
    assert digests == {"a4", "b4"}
    assert isinstance(error, MemoryLimitError)
    assert "needs 64 bytes" in str(error) and "at most 48" in str(error)


def test_fused_adapters_are_held_beside_their_parts(desk: Desk) -> None:
    adapters = (("a1", 0.25), ("b2", 0.5))
    keys = adapter_keys(adapters, "fusion")
    assert keys == ("a1", "b2", adapters)
    desk.hold(*keys)  # type: ignore[arg-type]
    held = desk.bank.acquire(keys)
    assert held is not None
    parts = [(held[digest], weight) for digest, weight in adapters]
    expected = fused(parts).pairs["layer"]
    assert torch.equal(held[adapters].pairs["layer"].a, expected.a)
    assert torch.equal(held[adapters].pairs["layer"].b, expected.b)
    assert desk.bank.size_bytes == 8 + 16 + 16
    assert desk.bank.digests == ("a1", "b2")


def test_a_bank_closes_while_it_loads(desk: Desk) -> None:
    desk.shelf.gates["a1"] = gate = threading.Event()
    desk.bank.plan([("a1",)])
    until(lambda: desk.shelf.loads["a1"] == 1)
    desk.bank.close()
    gate.set()
    until(lambda: desk.bank.size_bytes == 0)
    assert desk.bank.digests == ()


groups = st.lists(st.sampled_from(["a1", "b2", "c3", "d4", "e5", "f6"]), min_size=1, max_size=2, unique=True)


@settings(max_examples=30, deadline=None)
@given(turns=st.lists(groups, min_size=1, max_size=8))
def test_everybody_has_a_turn_and_no_byte_too_many(turns: list[list[str]]) -> None:
    """Rows join in turn, two at a time at most; the one that joined first leaves."""
    desk = Desk()
    waiting: list[Keys] = [tuple(group) for group in turns if sum(int(d[1:]) for d in group) <= 6]
    running: list[Keys] = []
    while waiting:
        until(lambda: joined(desk.bank, waiting, running) or not desk.bank.size_bytes <= 48)
        assert desk.bank.size_bytes <= 48
        assert {digest for keys in running for digest in keys} <= set(desk.bank.digests)
    desk.bank.close()


def joined(bank: AdapterBank, waiting: list[Keys], running: list[Keys]) -> bool:
    """Lets the first one join; where it has no room, another one leaves."""
    standing = standings(bank, waiting)[0]
    if running and (standing is NO_ROOM or len(running) == 2):
        bank.release([running.pop(0)])
    if standing is not HELD or bank.acquire(waiting[0]) is None:
        return False
    running.append(waiting.pop(0))
    return True


def standings(bank: AdapterBank, waiting: Sequence[Keys]) -> list[Standing]:
    return bank.plan(list(waiting))
