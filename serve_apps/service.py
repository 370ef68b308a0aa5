"""What the ingress does with a request: sentences, the three stages, merge. No Ray and no HTTP in here.

It is `retrieveall.tagger.Tagger.tag` with stages that may live elsewhere: the same functions in the
same order, so both give the same answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from retrieveall.answer import answer_body
from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import DeadlineExceeded, Overloaded
from retrieveall.generation import Generated, GenerationTask
from retrieveall.opening import OpenRelease
from retrieveall.routing.router import Routed
from retrieveall.tagger import (
    Composed,
    TextInput,
    compose,
    generation_task,
    merge,
    plan_documents,
    sentence_texts,
)
from retrieveall.types import Examples, Span
from serve_apps.current import CurrentRelease, Stage
from serve_apps.schemas import TagRequest
from serve_apps.threads import Threads

_READY_TIMEOUT_S = 5.0


class Router(Stage, Protocol):
    """See `serve_apps.router.RouterStage`."""

    async def route(
        self, release: int, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]
    ) -> Routed:
        """Routes the sentences of all documents."""
        ...


class Retriever(Stage, Protocol):
    """See `serve_apps.retriever.RetrieverStage`."""

    async def retrieve(
        self,
        release: int,
        texts: Sequence[str],
        composed: Sequence[Composed],
        embeddings: Vectors | None,
    ) -> list[Examples]:
        """Finds the examples of all sentences."""
        ...


class Generator(Stage, Protocol):
    """See `serve_apps.generator.GeneratorStage`."""

    async def generate(
        self, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        """Decodes all sentences."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """The graph behind the ingress."""

    router: Router
    retriever: Retriever
    generator: Generator

    @property
    def all(self) -> tuple[Stage, ...]:
        """The three of them."""
        return (self.router, self.retriever, self.generator)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A request cut into S sentences.

    Attributes:
        opened: The release that it is answered for, from the first stage to the last.
    """

    opened: OpenRelease
    documents: list[TextInput]
    spans: list[tuple[Span, ...]]
    texts: list[str]


class TagService:
    """Answers requests, each of one release.

    Args:
        current: Says which release a request is stamped with.
        stages: The graph.
        threads: Where texts are split and answers are written.
        timeout_s: Time that a request may take.
        max_in_flight: Requests at the same time; more are refused.
    """

    def __init__(
        self,
        current: CurrentRelease,
        stages: Stages,
        threads: Threads,
        *,
        timeout_s: float,
        max_in_flight: int,
    ) -> None:
        self.current = current
        self._stages, self._threads = stages, threads
        self._timeout_s, self._max_in_flight = timeout_s, max_in_flight
        self._in_flight = 0

    async def tag(self, request: TagRequest) -> dict[str, Any]:
        """Returns the body of `POST /v1/tag`.

        Raises:
            InputError: A text is no Unicode text, or pins a language without an adapter.
            Overloaded: Too many requests are in flight, or the engine is full.
            DeadlineExceeded: The request took too long.
            ServiceUnavailable: No release is open yet, or a replica went away.
        """
        with self._admitted():
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._tag(request, time.monotonic() + self._timeout_s)
            except DeadlineExceeded:
                raise
            except TimeoutError:
                raise DeadlineExceeded(
                    f"The request was not answered within {self._timeout_s:g} s."
                    " Send fewer texts at once, or give the service more time or replicas."
                ) from None

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(
                f"{self._in_flight} requests are being answered, as many as this service takes at once."
                " Try again after 1 seconds."
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _tag(self, request: TagRequest, deadline_s: float) -> dict[str, Any]:
        plan = await self._threads.run(self._plan, request, self.current.opened)
        number, adapters = plan.opened.release.number, plan.opened.adapters
        routed = await self._stages.router.route(number, plan.documents, plan.spans)
        composed = [compose(route, adapters) for route in routed.routes]
        examples = await self._stages.retriever.retrieve(number, plan.texts, composed, routed.embeddings)
        tasks = [generation_task(t, c, e) for t, c, e in zip(plan.texts, composed, examples, strict=True)]
        answers = await self._stages.generator.generate(number, tasks, deadline_s - time.monotonic())
        return await self._threads.run(self._body, request, plan, routed, composed, answers, examples)

    def _plan(self, request: TagRequest, opened: OpenRelease) -> Plan:
        documents = request.inputs()
        spans = plan_documents(documents, opened.adapters, split=True)
        return Plan(opened=opened, documents=documents, spans=spans, texts=sentence_texts(documents, spans))

    def _body(
        self,
        request: TagRequest,
        plan: Plan,
        routed: Routed,
        composed: Sequence[Composed],
        answers: Sequence[Generated],
        examples: Sequence[Examples],
    ) -> dict[str, Any]:
        kept = examples if request.explain else None
        tagged = merge(plan.documents, plan.spans, routed.routes, composed, answers, kept)
        number = plan.opened.release.number
        return answer_body(number, [d.text for d in plan.documents], tagged, request.options())

    async def ready(self) -> bool:
        """Tells whether every stage answers for the release that requests are stamped with."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await self.current.ask_replicas()
        except Exception:  # whatever is wrong with a stage, it is not ready
            return False
        return True

    def languages(self) -> dict[str, Any]:
        """Returns the body of `GET /v1/languages`."""
        opened = self.current.opened
        rows = [
            {"language": code, "labels": list(adapter.labels), "examples": code in opened.indexes}
            for code, adapter in sorted(opened.adapters.items())
        ]
        return {"release": opened.release.number, "languages": rows}

    def adapter_cards(self) -> dict[str, Any]:
        """Returns the body of `GET /v1/adapters`."""
        opened = self.current.opened
        rows = [
            {"digest": opened.adapters[code].digest, "language": code, "index": opened.indexes.get(code)}
            | {name: card.to_dict()[name] for name in _SHOWN}
            for code, card in sorted(opened.cards.items())
        ]
        return {"release": opened.release.number, "adapters": rows}

    def replicas(self) -> dict[str, Any]:
        """Returns the body of `GET /v1/replicas`."""
        return {
            "release": self.current.opened.release.number,
            "problem": self.current.problem,
            "replicas": self.current.board.rows(),
        }


_SHOWN = (
    "labels", "strategy", "base_model", "base_digest", "corpus", "synthetic", "licence",
    "dev", "calibration", "created_at",
)  # fmt: skip
