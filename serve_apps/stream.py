"""`POST /v1/tag/stream`: lines in, lines out, in order and in bounded memory. No Ray in here.

A stream is cut into small requests, each answered like any other; some are under way at once so that
the engine's batches fill. Full queues and used-up rates slow a stream down, they do not end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from retrieveall.errors import (
    DeadlineExceeded,
    InputError,
    Overloaded,
    RateLimited,
    ServiceUnavailable,
)
from serve_apps.access import LOCAL, Caller
from serve_apps.lines import Disconnected, Line, LineBuffer
from serve_apps.problems import Problem, body_problem, problem_of
from serve_apps.schemas import TagOptions, TagRequest, TextItem
from serve_apps.service import TagService

CHUNK_LINES = 32
CHUNKS_AT_ONCE = 4
PATIENCE_S = 120.0  # that a chunk waits for room before its lines are answered with the error

_EXPECTED_LINE = 'Send one JSON value a line: a string, or an object such as {"text": "Anna", "id": "7"}.'
_ITEM: TypeAdapter[str | TextItem] = TypeAdapter(str | TextItem)
Answered = dict[str, Any]


class StreamTagger:
    """Answers the lines of one stream.

    Args:
        service: Answers requests.
        caller: Who sends.
        options: What was asked of all lines.
        lines: As they come in.
    """

    def __init__(self, service: TagService, caller: Caller, options: TagOptions, lines: LineBuffer) -> None:
        self._service, self._caller, self._options, self._lines = service, caller, options, lines
        self._under_way = 0  # chunks

    async def answers(self) -> AsyncGenerator[Answered]:
        """Yields one answer per line that is not blank, in order.

        A line that cannot be answered yields ``{"line", "error"}``; after what was sent too far ahead or came
        too late, or a fault of the service, none follows.

        Raises:
            Disconnected: The client has left.
        """
        chunks: asyncio.Queue[asyncio.Task[list[Answered]] | None] = asyncio.Queue(CHUNKS_AT_ONCE)
        cutting = asyncio.create_task(self._cut(chunks))
        done = 0
        try:
            while (chunk := await chunks.get()) is not None:
                for answer in await chunk:
                    done = answer["line"]
                    yield answer
            await cutting
        except Disconnected:
            raise
        except Exception as error:
            yield _failed(done + 1, problem_of(error))
        finally:
            await _cancel(cutting, chunks)

    async def _cut(self, chunks: asyncio.Queue[asyncio.Task[list[Answered]] | None]) -> None:
        try:
            while lines := await self._taken():
                chunk = asyncio.create_task(self._answer(lines))
                try:
                    await chunks.put(chunk)
                except asyncio.CancelledError:
                    chunk.cancel()
                    raise
        finally:
            await chunks.put(None)

    async def _taken(self) -> list[Line]:
        """Returns the next lines; who waits for answers before sending more is not idle."""
        while True:
            try:
                return await self._lines.take(CHUNK_LINES)
            except DeadlineExceeded:
                if not self._under_way:
                    raise

    async def _answer(self, lines: Sequence[Line]) -> list[Answered]:
        self._under_way += 1
        try:
            return await self._answered(lines)
        finally:
            self._under_way -= 1

    async def _answered(self, lines: Sequence[Line]) -> list[Answered]:
        items: dict[int, str | TextItem] = {}
        answers: dict[int, Answered] = {}
        for line in lines:
            item = self._item(line)
            if isinstance(item, Problem):
                answers[line.number] = _failed(line.number, item)
            else:
                items[line.number] = item
        answers |= await self._tagged(items) if items else {}
        return [answers[line.number] for line in lines]

    def _item(self, line: Line) -> str | TextItem | Problem:
        if line.data is None:
            return problem_of(self._lines.too_long(line))
        try:
            return _ITEM.validate_python(json.loads(line.data))
        except ValidationError as error:
            return body_problem(error.errors(), _EXPECTED_LINE)
        except (RecursionError, ValueError) as error:  # a plain ValueError: an integer of too many digits
            broken = {"type": "json_invalid", "loc": (), "msg": f"no JSON ({type(error).__name__})"}
            return body_problem([broken], _EXPECTED_LINE)

    async def _tagged(
        self, items: dict[int, str | TextItem], *, is_charged: bool = True
    ) -> dict[int, Answered]:
        """Tags items; where one of them cannot be tagged, each goes for itself, charged once all the same."""
        request = TagRequest(texts=list(items.values()), **self._options.model_dump())
        try:
            body = await self._patiently(request, is_charged=is_charged)
        except InputError as error:
            if len(items) > 1:
                alone = [
                    await self._tagged({number: item}, is_charged=False) for number, item in items.items()
                ]
                return {number: answer for one in alone for number, answer in one.items()}
            problem = problem_of(error)
        except Exception as error:
            problem = problem_of(error)
        else:
            return {
                number: {"line": number, "release": body["release"], **result}
                for number, result in zip(items, body["results"], strict=True)
            }
        return {number: _failed(number, problem) for number in items}

    async def _patiently(self, request: TagRequest, *, is_charged: bool) -> dict[str, Any]:
        waited_s = 0.0
        while True:
            try:
                return await self._service.tag(request, self._caller, is_charged=is_charged)
            except (Overloaded, RateLimited, ServiceUnavailable) as error:
                wait_s = float(problem_of(error).headers["Retry-After"])
                if waited_s + wait_s > PATIENCE_S:
                    raise
                waited_s += wait_s
                await asyncio.sleep(wait_s)


async def _cancel(
    cutting: asyncio.Task[None], chunks: asyncio.Queue[asyncio.Task[list[Answered]] | None]
) -> None:
    """Ends all that a stream has started; rows that wait in the engine are freed."""
    cutting.cancel()
    while not cutting.done() or not chunks.empty():
        with contextlib.suppress(asyncio.QueueEmpty):
            if (chunk := chunks.get_nowait()) is not None:
                chunk.cancel()
        await asyncio.sleep(0)


def _failed(line: int, problem: Problem) -> Answered:
    return {"line": line, "error": problem.body()}


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamLimits:
    """What streams may hold.

    Attributes:
        max_streams: At the same time; more are refused.
        max_line_bytes: Longest line.
        max_waiting_bytes: Most bytes that one stream may be ahead of its answers.
        idle_s: Longest time without a line; then the stream is ended.
    """

    max_streams: int = 8
    max_line_bytes: int = 1 << 20
    max_waiting_bytes: int = 32 << 20
    idle_s: float = 60.0

    def of(self, caller: Caller) -> int:
        """Returns how many streams a caller may have: no key all of them, where there are keys."""
        return self.max_streams if caller == LOCAL else max(1, self.max_streams // 2)


class Streams:
    """The streams of an ingress replica.

    Args:
        service: Answers requests.
        limits: What they may hold.
    """

    def __init__(self, service: TagService, limits: StreamLimits) -> None:
        self._service, self._limits = service, limits
        self._open = Counter[str]()  # by caller

    def respond(self, caller: Caller, options: TagOptions) -> Response:
        """Returns the response to a stream, which reads the request itself.

        Raises:
            Overloaded: As many streams are open as may be, in all or of the caller.
        """
        self._check_room(caller)
        lines = LineBuffer(
            max_line_bytes=self._limits.max_line_bytes,
            max_waiting_bytes=self._limits.max_waiting_bytes,
            idle_s=self._limits.idle_s,
        )
        tagger = StreamTagger(self._service, caller, options, lines)
        return LinesResponse(tagger, lines, lambda: self.counted(caller))

    def _check_room(self, caller: Caller) -> None:
        if self._open.total() >= self._limits.max_streams:
            raise Overloaded(
                f"{self._open.total()} streams are open, as many as this service takes at once. Try again"
                " after 5 seconds."
            )
        if self._open[caller.id] >= self._limits.of(caller):
            raise Overloaded(
                f"This key has {self._open[caller.id]} streams open, as many as one key may. Try again after"
                " 5 seconds."
            )

    @contextlib.contextmanager
    def counted(self, caller: Caller) -> Iterator[None]:
        """Counts a stream of a caller as open inside the block."""
        self._open[caller.id] += 1
        try:
            yield
        finally:
            self._open[caller.id] -= 1
            if not self._open[caller.id]:
                del self._open[caller.id]


class LinesResponse(Response):
    """Reads the request's lines while it writes the answers.

    Starlette's own streaming response would read the request's body to see whether the client has left.

    Args:
        tagger: Answers the lines.
        lines: Filled from the request.
        counted: Entered for as long as it goes on.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self,
        tagger: StreamTagger,
        lines: LineBuffer,
        counted: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._tagger, self._lines, self._counted = tagger, lines, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers an ASGI request."""
        with self._counted():
            filling = asyncio.create_task(self._lines.fill(receive))
            try:
                await self._answer(send)
            except (Disconnected, OSError):  # nobody reads any more
                return
            finally:
                filling.cancel()

    async def _answer(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with contextlib.aclosing(self._tagger.answers()) as answers:
            async for answer in answers:
                await send({"type": "http.response.body", "body": _line(answer), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _line(answer: Answered) -> bytes:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
