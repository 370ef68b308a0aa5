"""How the ingress moves from release to release, with the real stages around an echo engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retrieveall.engine.echo import EchoEngine
from retrieveall.errors import BrokenArtefactError, ConflictError, ServiceUnavailable, UnknownLanguageError
from retrieveall.generation import Generated, GenerationTask
from retrieveall.lora.peft_files import WEIGHTS_FILE
from retrieveall.opening import OpenRelease
from retrieveall.prompting.codec import PromptCodec
from retrieveall.workspace import Workspace
from serve_apps.access import LOCAL
from serve_apps.args import ServeArgs
from serve_apps.current import CurrentRelease
from serve_apps.generator import GeneratorStage
from serve_apps.held import HeldReleases
from serve_apps.metrics import NoRecorder
from serve_apps.opened import ReleaseSource
from serve_apps.rates import TextRates
from serve_apps.retriever import RetrieverStage
from serve_apps.router import RouterStage
from serve_apps.schemas import TagRequest
from serve_apps.service import Limits, Stages, TagService
from serve_apps.threads import Threads
from tests.models import tiny_tokenizer
from tests.workspaces import NOW, publish_random, random_workspace


class House:
    """A workspace of two languages, its stages, and the service in front."""

    def __init__(self, folder: Path, *, release: int | None = None) -> None:
        self.folder = folder
        self.workspace: Workspace = random_workspace(folder, ("de", "en"))
        args = ServeArgs(workspace=self.workspace.uri, release=release, release_poll_s=3600)
        self.source = ReleaseSource.of(args)
        self.engine = EchoEngine(PromptCodec(tiny_tokenizer()))
        held = HeldReleases[OpenRelease](lambda number, _: self.source.read(number))
        self.generator = GeneratorStage(held, self.engine, self.engine.codec, Threads("test", 4), replica="g")
        self.stages = Stages(
            router=RouterStage.open(args, NoRecorder(), replica="r"),
            retriever=RetrieverStage.open(args, NoRecorder(), replica="t"),
            generator=self.generator,
        )
        self.threads = Threads("test", 2)
        self.now_s = 0.0
        self.current = CurrentRelease(self.source, self.stages.all, self.threads, clock=lambda: self.now_s)

    def service(self, **stages: Any) -> TagService:
        graph = Stages(
            router=stages.get("router", self.stages.router),
            retriever=self.stages.retriever,
            generator=stages.get("generator", self.generator),
        )
        return TagService(
            self.current, graph, self.threads, limits=Limits(), rates=TextRates(), recorder=NoRecorder()
        )

    def publish(self, seed: int) -> int:
        indexes = {c: e.index for c, e in self.workspace.releases.current().languages.items() if e.index}
        return publish_random(self.workspace, self.folder, indexes, seed=seed).number

    def take_up(self) -> int:
        return asyncio.run(self.current.take_up())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_nothing_answers_before_the_first_release_is_open(house: House) -> None:
    with pytest.raises(ServiceUnavailable, match="Try again after"):
        _ = house.current.opened
    assert house.take_up() == 1


def test_new_releases_and_rollbacks_are_taken_up_with_the_adapters_they_name(house: House) -> None:
    house.take_up()
    first = house.current.opened.adapters
    assert (house.publish(seed=5), house.take_up()) == (2, 2)
    second = house.current.opened.adapters
    assert {a.digest for a in first.values()}.isdisjoint(a.digest for a in second.values())

    house.workspace.releases.rollback(created_at=NOW)
    assert house.take_up() == 3
    assert house.current.opened.adapters == first
    rows = house.current.board.rows()
    assert {row["replica"]: row["releases"] for row in rows} == {"r": [2, 3], "t": [2, 3], "g": [2, 3]}


class Pausing:
    """Stands before a stage and lets the test act between two stages of one request."""

    def __init__(self, generator: GeneratorStage, pause: Callable[[], Any]) -> None:
        self.generator, self.pause = generator, pause
        self.asked: list[tuple[int, set[str]]] = []

    async def hold(self, release: int) -> Any:
        return await self.generator.hold(release)

    async def generate(
        self, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        await self.pause()
        self.asked.append((release, {digest for task in tasks for digest, _ in task.adapters}))
        return await self.generator.generate(release, tasks, timeout_s)


def test_a_request_under_way_is_answered_from_the_release_it_started_with(house: House) -> None:
    house.take_up()
    old = {adapter.digest for adapter in house.current.opened.adapters.values()}

    async def publish_twice() -> None:
        for seed in (5, 9):
            house.publish(seed)
            await house.current.take_up()

    stage = Pausing(house.generator, publish_twice)
    request = TagRequest(texts=["Helga Brandt fliegt nach Wien."])
    answer = asyncio.run(house.service(generator=stage).tag(request, LOCAL))

    assert answer["release"] == 1
    assert house.current.opened.release.number == 3
    (asked,) = stage.asked
    assert asked[0] == 1 and asked[1] <= old
    assert {s["adapter"] for s in answer["results"][0]["sentences"]} <= old


def test_a_release_with_a_broken_adapter_is_told_and_not_taken_up(house: House) -> None:
    house.take_up()
    house.publish(seed=5)
    digest = house.workspace.releases.current().entry("de").adapter
    weights = house.workspace.pool.path(digest) / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9] + b"123456789")

    assert house.take_up() == 1
    assert house.current.problem is not None and digest in house.current.problem
    weights.write_bytes(whole)
    assert house.take_up() == 1  # it was tried a moment ago
    house.now_s += 2
    assert house.take_up() == 2
    assert house.current.problem is None


def test_a_service_that_starts_on_a_broken_release_serves_the_one_before(house: House) -> None:
    house.publish(seed=5)
    digest = house.workspace.releases.current().entry("de").adapter
    (house.workspace.pool.path(digest) / WEIGHTS_FILE).unlink()

    assert house.take_up() == 1
    assert house.current.problem is not None


def test_reload_takes_up_what_is_new_and_reads_the_adapter(house: House) -> None:
    house.take_up()
    number = house.publish(seed=5)
    adapter = house.workspace.releases.current().entry("de").adapter

    answer = asyncio.run(house.current.reload("de"))
    assert (answer["release"], answer["adapter"]) == (number, adapter)
    with pytest.raises(UnknownLanguageError, match="de, en"):
        asyncio.run(house.current.reload("xx"))
    (house.workspace.pool.path(adapter) / WEIGHTS_FILE).write_bytes(b"no weights")
    with pytest.raises(BrokenArtefactError):
        asyncio.run(house.current.reload("de"))


def test_a_pinned_release_stays(tmp_path: Path) -> None:
    house = House(tmp_path, release=1)
    house.publish(seed=5)

    assert house.take_up() == 1
    with pytest.raises(ConflictError, match="release 1 only"):
        asyncio.run(house.current.reload("de"))


def test_unchanged_indexes_stay_open_from_one_release_to_the_next(house: House) -> None:
    asyncio.run(house.stages.retriever.hold(1))
    house.publish(seed=5)
    asyncio.run(house.stages.retriever.hold(2))

    held = house.stages.retriever._held  # type: ignore[attr-defined]
    assert held.get(1).retriever.indexes["de"] is held.get(2).retriever.indexes["de"]


def test_a_cancelled_request_frees_its_rows(house: House) -> None:
    house.take_up()
    slow = EchoEngine(house.engine.codec, max_batch_rows=1, sleep_s_per_step=0.05)
    stage = GeneratorStage(house.generator._held, slow, slow.codec, Threads("test", 1))
    task = GenerationTask(text="Anna " * 40, labels=("PER",), adapters=())

    async def leave() -> None:
        asking = asyncio.create_task(stage.generate(1, [task] * 50, 600.0))
        while not slow.stats().batches:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await stage.generate(1, [GenerationTask(text="a", labels=("PER",), adapters=())], 60.0)

    asyncio.run(leave())
    assert slow.stats().rows_done <= 2
    stage.close()
