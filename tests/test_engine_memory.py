"""No more bytes than the budget, whatever joins, and the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall.engine.kv_cache import KvLimit, SlotCache, columns_of
from retrieveall.engine.memory import available_bytes, cgroup_bytes, memory_budget
from retrieveall.errors import ConfigError, MemoryLimitError
from tests.engine_world import ADAPTERS, TIMEOUT_S, World, spans_of
from tests.models import SENTENCES

CPU = torch.device("cpu")
TOKEN_BYTES = 2 * 2 * 2 * 8 * 8  # layers, keys and values, heads, head size, float64


def used(world: World) -> int:
    memory = world.engine.stats().memory
    return memory.kv_bytes + memory.adapter_bytes + memory.stack_bytes


def test_the_budget_holds_and_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, "llama", max_batch_rows=16, memory_bytes=1_500_000, adapter_bytes=300_000)
    whole, seen, together = world.engine._follow, [], []

    def follow(rows: Sequence[Any]) -> None:
        whole(rows)
        seen.append(used(world))
        together.append(len(world.engine._running.rows))

    monkeypatch.setattr(world.engine._running, "_follow", follow)
    rows = [
        world.row(text, ((digest, 1.0),), examples=3 * (index % 5))
        for index, text in enumerate(SENTENCES[:8])
        for digest in ("en", "ru", "sw")
    ]
    answers = world.decode(rows)
    assert [spans_of(answer) for answer in answers] == [world.expected(row) for row in rows]
    assert 1 < max(together) < 16  # memory was what kept rows waiting
    assert 500_000 < max(seen) <= 1_500_000
    world.engine.close()


def test_a_row_that_never_fits_is_refused_with_the_numbers(tmp_path: Path) -> None:
    world = World(tmp_path, "llama", memory_bytes=1_000_000, adapter_bytes=400_000)
    long, short = world.row(SENTENCES[0], examples=60), world.row(SENTENCES[0])
    futures = [world.engine.submit(long), world.engine.submit(short)]
    error = futures[0].exception(TIMEOUT_S)
    assert isinstance(error, MemoryLimitError)
    assert f"{len(long.prompt_ids)} prompt tokens" in str(error) and "200,000" in str(error)
    assert spans_of(futures[1].result(TIMEOUT_S)) == world.expected(short)
    assert world.engine.stats().rows_failed == 1
    world.engine.close()


def test_a_token_takes_what_the_architecture_says(tmp_path: Path) -> None:
    world = World(tmp_path, "gemma3", memory_bytes=1_000_000)
    assert world.engine._running.limit == KvLimit(limit_bytes=600_000, token_bytes=TOKEN_BYTES, buffers=4)
    world.engine.close()


def test_a_batch_too_large_for_the_device_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of more than two rows breaks off, at prompts and at later tokens."""
    world = World(tmp_path, "llama", max_batch_rows=8)
    whole, sizes = world.engine._running._scorer.states, []

    def states(columns: int, **inputs: Any) -> torch.Tensor:
        rows = inputs["input_ids"].shape[0]
        if rows > 2:
            raise torch.OutOfMemoryError("tried to allocate 1 GiB")
        sizes.append(rows)
        return whole(columns, **inputs)

    rows = [world.row(text, ((digest, 1.0),)) for text in SENTENCES[:3] for digest in ADAPTERS]
    world.decode(rows[: len(ADAPTERS)])  # so that all adapters are there, and all rows may join at once
    monkeypatch.setattr(world.engine._running._scorer, "states", states)
    answers = world.decode(rows)
    assert [spans_of(answer) for answer in answers] == [world.expected(row) for row in rows]
    stats = world.engine.stats()
    assert stats.splits >= 2 and stats.rows_failed == 0 and max(sizes) == 2
    world.engine.close()


def test_a_row_too_large_for_the_device_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, "llama", max_batch_rows=8)
    rows = [world.row(text, (("en", 1.0),)) for text in SENTENCES[:4]]
    large = world.row(SENTENCES[4], (("en", 1.0),), examples=20)
    whole = world.engine._running._scorer.states

    def states(columns: int, **inputs: Any) -> torch.Tensor:
        if inputs["past_key_values"].places.width >= len(large.prompt_ids):
            raise torch.OutOfMemoryError("tried to allocate 1 GiB")
        return whole(columns, **inputs)

    monkeypatch.setattr(world.engine._running._scorer, "states", states)
    futures = [world.engine.submit(row) for row in (*rows[:2], large, *rows[2:])]
    with pytest.raises(
        MemoryLimitError, match=r"no memory left for a row of \d+ .*\(tried to allocate 1 GiB\)"
    ):
        futures.pop(2).result(TIMEOUT_S)
    assert [spans_of(f.result(TIMEOUT_S)) for f in futures] == [world.expected(row) for row in rows]
    world.engine.close()


def filled(limit: KvLimit, rows: int, tokens: int) -> SlotCache:
    cache = SlotCache(limit)
    write(cache, rows, tokens, live=0)
    return cache


def write(cache: SlotCache, rows: int, tokens: int, *, live: int) -> torch.Tensor:
    """Reserves, and writes the first token of the rows that are new."""
    cache.reserve(rows, tokens, live=live)
    cache.places.first_slot, cache.places.width = live, 1
    cache.places.columns_NL = torch.ones(rows - live, 1, dtype=torch.long)
    states = torch.arange(live, rows).view(-1, 1, 1, 1) * torch.ones(1, 2, 1, 4)
    keys, _ = cache.update(states, states, 0)
    return keys


LIMIT = KvLimit(limit_bytes=90_000, token_bytes=64, buffers=2)


def test_buffers_are_used_again_and_shrink_after_an_unusually_long_row() -> None:
    cache = filled(LIMIT, 1, 700)
    assert cache.size_bytes == 64 * columns_of(700)
    for _ in range(15):
        write(cache, 1, 100, live=0)
        assert cache.size_bytes == 64 * columns_of(700)
    write(cache, 1, 100, live=0)
    assert cache.size_bytes == 64 * columns_of(100)


def test_buffers_take_another_shape_where_both_do_not_fit() -> None:
    cache = filled(LIMIT, 6, 100)
    assert cache.size_bytes == 6 * 64 * 128
    write(cache, 2, 400, live=1)
    assert cache.size_bytes == 2 * 64 * columns_of(400)
    assert LIMIT.fits(2, 400) and not LIMIT.fits(6, 400)


def test_rows_keep_what_they_hold_when_buffers_change() -> None:
    cache = filled(LIMIT, 3, 60)
    write(cache, 4, 190, live=3)
    cache.places.first_slot = 0
    cache.places.columns_NL = torch.full((4, 1), 2)
    cache.places.width = 2
    keys, values = cache.update(torch.zeros(4, 2, 1, 4), torch.zeros(4, 2, 1, 4), 0)
    assert keys[:, 0, 0, 0].tolist() == values[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_the_copy_of_a_buffer_that_grows_is_counted() -> None:
    limit = KvLimit(limit_bytes=64 * 128 * 10, token_bytes=64, buffers=4)
    assert limit.fits(8, 127)
    assert not limit.fits(9, 127)  # 9 rows fit, and a quarter of them twice does not


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_limits_of_cgroups_version_2(tmp_path: Path) -> None:
    proc, mount = tmp_path / "cgroup", tmp_path / "fs"
    proc.write_text("0::/pod/box\n")
    stat = "anon 5\ninactive_file 300\n"
    group(mount / "pod", memory__max="1000\n", memory__current="900\n", memory__stat=stat)
    group(mount / "pod" / "box", memory__max="max\n", memory__current="800\n")
    assert list(cgroup_bytes(proc, mount)) == [400]
    (mount / "pod" / "box" / "memory.max").write_text("850\n")
    assert list(cgroup_bytes(proc, mount)) == [50, 400]


def test_limits_of_cgroups_version_1_seen_from_inside_a_container(tmp_path: Path) -> None:
    """The group's own name is the host's, the container sees its folder as the root."""
    proc, mount = tmp_path / "cgroup", tmp_path / "fs"
    proc.write_text("9:name=systemd:/\n4:cpu,memory:/docker/4711\n")
    files = {"memory__limit_in_bytes": "5000", "memory__usage_in_bytes": "6000"}
    group(mount / "memory", memory__stat="total_inactive_file 1500\n", **files)
    assert list(cgroup_bytes(proc, mount)) == [500]


def test_without_cgroups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert list(cgroup_bytes(tmp_path / "cgroup", tmp_path)) == []
    assert available_bytes(CPU) > 10_000_000


def test_shares_of_a_budget() -> None:
    budget = memory_budget(CPU, share=0.5, total_bytes=1000, adapter_bytes=None)
    assert (budget.adapter_bytes, budget.stack_bytes, budget.kv_bytes) == (200, 200, 600)
    with pytest.raises(ConfigError, match="nothing is left"):
        memory_budget(CPU, share=0.5, total_bytes=1000, adapter_bytes=500)
