"""Stages behind handles: what is asked again, and what errors become. Handles are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError

from retrieveall.errors import Overloaded, ServiceUnavailable
from retrieveall.generation import Generated, GenerationTask
from retrieveall.routing.router import Routed
from retrieveall.tagger import TextInput, pinned_route
from retrieveall.types import Span
from serve_apps.remote import RemoteGenerator, RemoteRouter, RouteQuestion


@dataclass
class Handle:
    """Answers with the texts of the tasks, or as `fail` says; keeps what it was asked."""

    fail: Callable[[int], Exception | None] = lambda _: None
    asked: list[list[str]] = field(default_factory=list)

    @property
    def generate(self) -> Handle:
        return self

    def remote(self, trace: dict[str, str], release: int, tasks: list[GenerationTask], _: float) -> Any:
        self.asked.append([task.text for task in tasks])
        error = self.fail(len(self.asked))

        async def answer() -> list[Generated]:
            if error:
                raise error
            return [generated(len(task.text)) for task in tasks]

        return answer()


def generated(tokens: int) -> Generated:
    return Generated(entities=(), examples_dropped=0, prompt_tokens=tokens, new_tokens=0, forward_passes=0)


def task(text: str, digest: str) -> GenerationTask:
    return GenerationTask(text=text, labels=("PER",), adapters=((digest, 1.0),))


TASKS = [task("a", "d1"), task("bb", "d2"), task("ccc", "d1")]


def generate(handle: Handle) -> list[int]:
    stage: Any = RemoteGenerator(handle, "generator")  # type: ignore[arg-type]
    return [answer.prompt_tokens for answer in asyncio.run(stage.generate(1, TASKS, 5.0))]


def test_a_request_goes_to_one_replica() -> None:
    handle = Handle()
    assert generate(handle) == [1, 2, 3]
    assert handle.asked == [["a", "bb", "ccc"]]


def test_a_dead_replicas_work_is_done_by_another_once() -> None:
    handle = Handle(lambda number: ActorDiedError() if number == 1 else None)
    assert generate(handle) == [1, 2, 3]
    assert len(handle.asked) == 2

    with pytest.raises(ServiceUnavailable, match="Try again after"):
        generate(Handle(lambda _: ActorDiedError()))


def test_a_full_stage_is_overload() -> None:
    with pytest.raises(Overloaded, match="generator is full"):
        generate(Handle(lambda _: BackPressureError(1, 1)))


@dataclass
class Routers:
    """Routes every text to its own name; keeps the texts of each call."""

    asked: list[list[str]] = field(default_factory=list)

    @property
    def route(self) -> Routers:
        return self

    def remote(self, questions: list[RouteQuestion]) -> Any:
        self.asked.append([documents[0].text for _, _, documents, _ in questions])
        if self.asked == [["a"]]:
            return failed(ActorDiedError())
        return answered([routed(documents[0].text) for _, _, documents, _ in questions])


async def failed(error: Exception) -> Any:
    raise error


async def answered(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def routed(language: str) -> Routed:
    return Routed(routes=(pinned_route(language),), embeddings=None)


def test_requests_at_the_same_time_share_a_call_also_after_a_replica_died() -> None:
    handle = Routers()

    async def run() -> list[str]:
        router = RemoteRouter(handle, "router")  # type: ignore[arg-type]
        spans = [(Span(start_char=0, end_char=1),)]
        found = await asyncio.gather(*(router.route(1, [TextInput(text=text)], spans) for text in "abcd"))
        return [one.routes[0].language for one in found]

    assert asyncio.run(run()) == ["a", "b", "c", "d"]
    assert sorted(handle.asked) == [["a"], ["a"], ["b"], ["c", "d"]]
