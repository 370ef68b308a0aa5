"""Adapters come and go beside decoding, and every row is answered by the adapter it asked for."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from retrieveall.engine.protocol import Row
from retrieveall.errors import DeadlineExceeded, EngineClosed, MemoryLimitError, NotFoundError
from tests.engine_world import TIMEOUT_S, World, spans_of
from tests.models import SENTENCES

DE_BYTES = 131_072  # of the largest of `ADAPTERS` in float64; `en` has half of that


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Has room for one adapter of rank 16, or two smaller ones, and for three rows."""
    made = World(tmp_path, "qwen3", max_batch_rows=3, adapter_bytes=DE_BYTES)
    yield made
    for gate in made.gates.values():
        gate.set()
    made.engine.close()


def row(world: World, digest: str, number: int = 0, **changes: Any) -> Row:
    return world.row(SENTENCES[number], ((digest, 1.0),), **changes)


def shut(world: World, digest: str) -> threading.Event:
    world.gates[digest] = threading.Event()
    return world.gates[digest]


def until(condition: Any) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def test_rows_of_held_adapters_go_on_while_another_is_loaded(world: World) -> None:
    world.decode([row(world, "en")])
    gate = shut(world, "ru")
    cold = [row(world, "ru", number) for number in range(4)]
    waiting = [world.engine.submit(one) for one in cold]
    until(lambda: world.loads["ru"])
    warm = [row(world, "en", number) for number in range(4)]
    assert [spans_of(answer) for answer in world.decode(warm)] == [world.expected(one) for one in warm]
    assert not any(future.done() for future in waiting)
    assert world.engine.stats().rows_waiting == 4
    gate.set()
    answers = [future.result(TIMEOUT_S) for future in waiting]
    assert [spans_of(answer) for answer in answers] == [world.expected(one) for one in cold]
    assert world.loads["ru"] == 2  # once for its size, once for all four rows


def test_a_deadline_passes_while_an_adapter_is_loaded(world: World) -> None:
    shut(world, "ru")
    late = world.row(SENTENCES[0], (("ru", 1.0),), deadline_s=time.monotonic() + 0.2)
    future = world.engine.submit(late)
    assert isinstance(future.exception(TIMEOUT_S), DeadlineExceeded)
    until(lambda: world.engine.stats().rows_waiting == 0)
    assert world.engine.stats().rows_failed == 1


def test_a_row_is_cancelled_while_its_adapter_is_loaded(world: World) -> None:
    gate = shut(world, "ru")
    future, other = world.engine.submit(row(world, "ru")), world.engine.submit(row(world, "ru", 1))
    until(lambda: world.loads["ru"])
    assert future.cancel()
    until(lambda: world.engine.stats().rows_waiting == 1)
    gate.set()
    assert spans_of(other.result(TIMEOUT_S)) == world.expected(row(world, "ru", 1))


def test_closing_does_not_wait_for_a_load(world: World) -> None:
    shut(world, "ru")
    future = world.engine.submit(row(world, "ru"))
    until(lambda: world.loads["ru"])
    world.engine.close()
    assert isinstance(future.exception(0), EngineClosed)


def test_a_broken_adapter_fails_the_rows_that_wait_for_it(world: World) -> None:
    """Those that share its load fail at once; the next one has it tried again."""
    good = row(world, "en")
    world.decode([good])
    gate = shut(world, "later")
    broken = [world.engine.submit(row(world, "later", number)) for number in range(3)]
    until(lambda: world.loads["later"])
    assert spans_of(world.decode([good])[0]) == world.expected(good)
    gate.set()
    assert all(isinstance(future.exception(TIMEOUT_S), NotFoundError) for future in broken)
    assert world.loads["later"] <= 2
    shutil.copytree(world.folder / "en", world.folder / "later")
    assert spans_of(world.decode([row(world, "later")])[0]) == world.expected(good)


def test_more_adapters_than_fit_take_turns(world: World) -> None:
    """Rows of two adapters that do not fit together, and of those that do, in any order."""
    rows = [row(world, digest, number) for number in range(5) for digest in ("en", "de", "ru", "sw")]
    random.Random(1).shuffle(rows)
    futures = [world.engine.submit(one) for one in rows]
    while any(not future.done() for future in futures):
        assert world.engine.stats().memory.adapter_bytes <= DE_BYTES
        wait(futures, 0.005)
    assert [spans_of(future.result(0)) for future in futures] == [world.expected(one) for one in rows]
    assert len(world.engine.stats().adapters) < 4


def test_adapters_that_never_fit_together_are_refused_with_the_numbers(world: World) -> None:
    mixture = world.row(SENTENCES[0], (("en", 0.5), ("de", 0.5)), "mixture")
    fusion = world.row(SENTENCES[0], (("en", 0.5), ("sw", 0.5)), "fusion")
    good = row(world, "de")
    futures = [world.engine.submit(one) for one in (mixture, fusion, good)]
    for future, needed in zip(futures, ("196,608", "157,696"), strict=False):
        error = future.exception(TIMEOUT_S)
        assert isinstance(error, MemoryLimitError)
        assert needed in str(error) and "131,072" in str(error)
    assert spans_of(futures[2].result(TIMEOUT_S)) == world.expected(good)


def test_rows_that_wait_outlive_a_pass_that_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for `de` beside `en`, so the second row waits while the first one's pass breaks."""
    whole = world.engine._running.join

    def broken_once(rows: Any) -> None:
        monkeypatch.setattr(world.engine._running, "join", whole)
        raise RuntimeError("the pass broke off")

    monkeypatch.setattr(world.engine._running, "join", broken_once)
    futures = [world.engine.submit(row(world, digest)) for digest in ("en", "de")]
    assert isinstance(futures[0].exception(TIMEOUT_S), RuntimeError)
    assert spans_of(futures[1].result(TIMEOUT_S)) == world.expected(row(world, "de"))
    assert world.engine.stats().adapters == ("de",)  # the failed row let go of `en`


def test_a_reload_in_mid_flight_keeps_every_row_with_its_digest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another digest takes over while rows of the old one are under way, and the old one comes back."""
    shutil.copytree(world.folder / "ru", world.folder / "en-2")
    waves = [
        [row(world, "en", number, examples=number) for number in range(3)],
        [row(world, digest, number) for number in range(4) for digest in ("en-2", "de")],
        [row(world, digest, number) for number in range(4) for digest in ("en", "en-2")],
    ]
    expected = [world.expected(one) for wave in waves for one in wave]
    running = world.engine._running
    whole, futures = running.step, [world.engine.submit(one) for one in waves.pop(0)]

    def step() -> None:
        if len(waves) == 2:  # rows of `en` are under way
            shutil.move(world.folder / "en", world.folder / "gone")
            futures.extend(world.engine.submit(one) for one in waves.pop(0))
        elif waves and any(live.ticket.row.adapters[0][0] == "de" for live in running.rows):
            assert "en" not in world.engine.stats().adapters  # there was no room beside `de`
            shutil.move(world.folder / "gone", world.folder / "en")
            futures.extend(world.engine.submit(one) for one in waves.pop(0))
        whole()

    monkeypatch.setattr(running, "step", step)
    answers = [future.result(TIMEOUT_S) for future in futures[:3]]
    until(lambda: not waves)
    answers += [future.result(TIMEOUT_S) for future in futures[3:]]
    assert [spans_of(answer) for answer in answers] == expected
    assert world.loads["en"] == 3  # its size, and twice whole
