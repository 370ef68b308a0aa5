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
from retrieveall.errors import DeadlineExceeded, Overloaded, TooLargeError
from retrieveall.generation import Generated, GenerationTask
from retrieveall.opening import OpenRelease
from retrieveall.routing.router import Routed
from retrieveall.tagger import (
    Composed,
    ServedAdapter,
    TextInput,
    compose,
    generation_task,
    merge,
    plan_documents,
    sentence_texts,
)
from retrieveall.taught.view import TaughtView
from retrieveall.types import Examples, Route, Span
from serve_apps import metrics
from serve_apps.access import Caller
from serve_apps.current import CurrentRelease, Stage
from serve_apps.measuring import record_sentences
from serve_apps.metrics import Recorder, timed
from serve_apps.rates import TextRates
from serve_apps.schemas import TagRequest
from serve_apps.threads import Threads
from serve_apps.tracing import span


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
        view: TaughtView,
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
        release: The one that it is answered for, from the first stage to the last.
        adapters: Those of the release that may act for the caller.
    """

    release: int
    adapters: dict[str, ServedAdapter]
    documents: list[TextInput]
    spans: list[tuple[Span, ...]]
    texts: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a request may be.

    Attributes:
        timeout_s: Time that it may take.
        max_in_flight: Requests at the same time; more are refused.
        max_text_chars: Longest text.
    """

    timeout_s: float = 60.0
    max_in_flight: int = 256
    max_text_chars: int = 100_000

    def check_texts(self, documents: Sequence[TextInput]) -> None:
        """Checks the length of texts.

        Raises:
            TooLargeError: One is too long.
        """
        for number, document in enumerate(documents):
            if len(document.text) > self.max_text_chars:
                raise TooLargeError(
                    f"texts.{number} has {len(document.text)} characters; this service takes up to"
                    f" {self.max_text_chars} in one text."
                )


class TagService:
    """Answers requests, each of one release.

    Args:
        current: Says which release a request is stamped with.
        stages: The graph.
        threads: Where texts are split and answers are written.
        limits: What a request may be.
        rates: What keys may send.
        recorder: Where measurements go.
    """

    def __init__(
        self,
        current: CurrentRelease,
        stages: Stages,
        threads: Threads,
        *,
        limits: Limits,
        rates: TextRates,
        recorder: Recorder,
    ) -> None:
        self.current = current
        self._stages, self._threads = stages, threads
        self._limits, self._rates, self._recorder = limits, rates, recorder
        self._in_flight = 0

    async def tag(self, request: TagRequest, caller: Caller, *, is_charged: bool = True) -> dict[str, Any]:
        """Returns the body of `POST /v1/tag`.

        Args:
            request: The texts, and what is asked of them.
            caller: Who sends them.
            is_charged: Whether they count against the caller's rate; False where they have already.

        Raises:
            InputError: A text is no Unicode text, or pins a language without an adapter.
            TooLargeError: A text is too long.
            ForbiddenError: The release has no adapter for the caller's languages.
            RateLimited: The caller has sent as many texts as it may.
            Overloaded: Too many requests are in flight, or the engine is full.
            DeadlineExceeded: The request took too long.
            ServiceUnavailable: No release is open yet, a replica went away, or a taught example that the
                request must be answered with has not arrived.
        """
        timeout_s = self._limits.timeout_s
        rate = caller.texts_per_minute if is_charged else None
        with self._admitted(), self._rates.charged(caller.id, rate, len(request.texts)):
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._tag(request, caller, time.monotonic() + timeout_s)
            except DeadlineExceeded:
                raise
            except TimeoutError:
                raise DeadlineExceeded(
                    f"The request was not answered within {timeout_s:g} s."
                    " Send fewer texts at once, or give the service more time or replicas."
                ) from None

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._in_flight >= self._limits.max_in_flight:
            raise Overloaded(
                f"{self._in_flight} requests are being answered, as many as this service takes at once."
                " Try again after 1 seconds."
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _tag(self, request: TagRequest, caller: Caller, deadline_s: float) -> dict[str, Any]:
        with self._timed("sentences"):
            plan = await self._threads.run(self._plan, request, self.current.opened, caller)
        number = plan.release
        with self._timed("route"):
            routed = await self._stages.router.route(number, plan.documents, plan.spans)
        routes = tuple(map(caller.route, routed.routes))
        composed = [compose(route, plan.adapters) for route in routes]
        with self._timed("retrieve"):
            view = TaughtView.of(caller.namespace, request.taught_seq)
            examples = await self._stages.retriever.retrieve(
                number, plan.texts, composed, routed.embeddings, view
            )
        tasks = [generation_task(t, c, e) for t, c, e in zip(plan.texts, composed, examples, strict=True)]
        with self._timed("generate"):
            answers = await self._stages.generator.generate(number, tasks, deadline_s - time.monotonic())
        with self._timed("answer"):
            return await self._threads.run(self._body, request, plan, routes, composed, answers, examples)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        with timed(self._recorder, metrics.STAGE_SECONDS, stage=stage), span(stage):
            yield

    def _plan(self, request: TagRequest, opened: OpenRelease, caller: Caller) -> Plan:
        adapters = caller.served(opened.adapters)
        documents = request.inputs()
        self._limits.check_texts(documents)
        spans = plan_documents(documents, adapters, split=True)
        return Plan(
            release=opened.release.number,
            adapters=adapters,
            documents=documents,
            spans=spans,
            texts=sentence_texts(documents, spans),
        )

    def _body(
        self,
        request: TagRequest,
        plan: Plan,
        routes: Sequence[Route],
        composed: Sequence[Composed],
        answers: Sequence[Generated],
        examples: Sequence[Examples],
    ) -> dict[str, Any]:
        self._recorder.record(metrics.TEXTS, len(plan.documents))
        record_sentences(self._recorder, routes, composed, examples, answers)
        kept = examples if request.explain else None
        tagged = merge(plan.documents, plan.spans, routes, composed, answers, kept)
        return answer_body(plan.release, [d.text for d in plan.documents], tagged, request.options())

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    def languages(self, caller: Caller) -> dict[str, Any]:
        """Returns the body of `GET /v1/languages`, those that the caller may be answered in."""
        opened = self.current.opened
        rows = [
            {"language": code, "labels": list(adapter.labels), "examples": code in opened.indexes}
            for code, adapter in sorted(caller.served(opened.adapters).items())
        ]
        return {"release": opened.release.number, "languages": rows}

    def adapter_cards(self, caller: Caller) -> dict[str, Any]:
        """Returns the body of `GET /v1/adapters`, those of the caller's languages."""
        opened = self.current.opened
        served = caller.served(opened.adapters)
        rows = [
            {"digest": served[code].digest, "language": code, "index": opened.indexes.get(code)}
            | {name: card.to_dict()[name] for name in _SHOWN}
            for code, card in sorted(opened.cards.items())
            if code in served
        ]
        return {"release": opened.release.number, "adapters": rows}

    def replicas(self) -> dict[str, Any]:
        """Returns the body of `GET /v1/replicas`."""
        return {
            "release": self.current.number,
            "problem": self.current.problem,
            "faults": self.current.faults,
            "replicas": self.current.board.rows(),
        }


_SHOWN = (
    "labels", "strategy", "base_model", "base_digest", "corpus", "synthetic", "licence",
    "dev", "calibration", "created_at",
)  # fmt: skip
