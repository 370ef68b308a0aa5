"""A minute of mixed traffic leaves nothing behind: all futures end; memory, rows, threads stay flat."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from retrieveall.engine.protocol import Decoded, Row
from retrieveall.errors import DeadlineExceeded, NotFoundError
from retrieveall.types import Composition
from tests.engine_world import ADAPTERS, TIMEOUT_S, World
from tests.models import SENTENCES

WARM_UP_S, SOAK_S = 20.0, 45.0
BURST_ROWS = 40
TOGETHER: tuple[Composition, ...] = ("mixture", "fusion")
GONE = "gone"  # no such adapter: its rows fail
GROWTH_BYTES = 16 * 2**20  # allocators breathe by one or two; a kilobyte kept of each of 25,000 rows is more
WORDS = [word for sentence in SENTENCES for word in sentence.split()]


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def any_row(world: World, rng: random.Random) -> Row:
    """A row of any length with no adapter, one, two together, or one that does not exist."""
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 30)))
    digests = rng.sample([*ADAPTERS, GONE], rng.choice((0, 1, 1, 1, 2)))
    adapters = tuple((digest, 1.0 / len(digests)) for digest in digests)
    deadline_s = time.monotonic() + rng.uniform(0.0, 0.1) if rng.random() < 0.1 else None
    composition: Composition = rng.choice(TOGETHER) if len(digests) > 1 else "selection"
    return world.row(text, adapters, composition, examples=rng.randint(0, 3), deadline_s=deadline_s)


def outcome(future: Future[Decoded]) -> str:
    """Waits for a future's end and names it; an error that no row deserves is raised."""
    try:
        future.result(TIMEOUT_S)
    except (CancelledError, NotFoundError, DeadlineExceeded) as error:
        return type(error).__name__
    return "done"


def send_bursts(world: World, rng: random.Random, seconds: float) -> Counter[str]:
    """Sends bursts for so long, gives up a quarter of the rows at any moment, and counts how rows end."""
    ends: Counter[str] = Counter()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        futures = [world.engine.submit(any_row(world, rng)) for _ in range(BURST_ROWS)]
        for future in rng.sample(futures, BURST_ROWS // 4):
            time.sleep(rng.uniform(0.0, 0.01))
            future.cancel()
        ends.update(map(outcome, futures))
    return ends


def settled(world: World) -> bool:
    """Waits until the engine holds no row and no adapter for one; False where it goes on doing so."""
    engine = world.engine
    until_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until_s:
        if not engine.stats().rows_waiting and not engine._running.rows and not engine._bank._uses:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_mixed_traffic_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path, "llama", dtype="float32", max_batch_rows=16)
    rng = random.Random(0)
    try:
        send_bursts(world, rng, WARM_UP_S)
        assert settled(world)
        threads, memory, resident = threading.active_count(), world.engine.stats().memory, resident_bytes()
        ends = send_bursts(world, rng, SOAK_S)
        assert settled(world)
        after = world.engine.stats()
    finally:
        world.engine.close()

    assert {"done", "CancelledError", "NotFoundError", "DeadlineExceeded"} == set(ends)
    assert sum(ends.values()) % BURST_ROWS == 0
    assert threading.active_count() <= threads
    assert after.memory.adapter_bytes == memory.adapter_bytes
    assert after.memory.kv_bytes + after.memory.stack_bytes <= after.memory.budget_bytes
    assert resident_bytes() - resident < GROWTH_BYTES
