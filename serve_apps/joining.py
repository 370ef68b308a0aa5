"""What several requests ask of a stage at the same time goes to it in one call. No Ray in here.

A call through Serve costs more than routing a sentence or finding its examples. Where a stage has answered
what was asked so far, a question goes out at once, alone; while calls are under way, questions wait for the
next one and go together. Nothing waits for a clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

from retrieveall.errors import RetrieveAllError

MOST_UNDER_WAY = 2  # calls; one is worked on while the next is on its way
MOST_JOINED = 64  # sentences of one call; where so many wait, it goes out however many are under way
_ALONE_FROM = 16  # sentences of one question, which others would wait long for

Q = TypeVar("Q")
A = TypeVar("A")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Q, A]):
    question: Q
    size: int
    answer: asyncio.Future[A]


class JoinedCalls(Generic[Q, A]):
    """Asks a stage for many requests. Belongs to one event loop.

    Args:
        call: Answers N questions, each for itself: the n-th answer, or what went wrong with that question.
    """

    def __init__(self, call: Callable[[list[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        self._call = call
        self._waiting: deque[_Asked[Q, A]] = deque()
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q, *, size: int) -> A:
        """Returns the answer to one question; cancelling a call's last question cancels the call.

        Args:
            question: What the stage is asked.
            size: Its sentences.

        Raises:
            Exception: What went wrong with this question, or with the whole call.
        """
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        asked = _Asked(question, size, answer)
        if size >= _ALONE_FROM:
            self._start([asked])
        else:
            self._waiting.append(asked)
            self._send()
        return await answer

    def _send(self) -> None:
        while self._waiting and (self._under_way < MOST_UNDER_WAY or self._waiting_size() >= MOST_JOINED):
            taken = self._taken()
            if taken:
                self._under_way += 1
                self._start(taken).add_done_callback(self._ended)

    def _waiting_size(self) -> int:
        return sum(asked.size for asked in self._waiting)

    def _taken(self) -> list[_Asked[Q, A]]:
        taken: list[_Asked[Q, A]] = []
        size = 0
        while self._waiting and size < MOST_JOINED:
            asked = self._waiting.popleft()
            if not asked.answer.done():  # who asked may have left
                taken.append(asked)
                size += asked.size
        return taken

    def _start(self, taken: list[_Asked[Q, A]]) -> asyncio.Task[None]:
        # In a context of its own: Serve ends the calls of a request whose client left, and this is nobody's.
        task = asyncio.get_running_loop().create_task(self._answer(taken), context=Context())
        self._tasks.add(task)  # the loop holds none
        task.add_done_callback(self._tasks.discard)

        def left(_: object) -> None:
            if all(asked.answer.cancelled() for asked in taken):
                task.cancel()

        for asked in taken:
            asked.answer.add_done_callback(left)
        return task

    def _ended(self, _: object) -> None:
        self._under_way -= 1
        self._send()

    async def _answer(self, taken: list[_Asked[Q, A]]) -> None:
        try:
            await self._hand_out(taken)
        finally:  # whatever ends the call, nobody waits for it any longer
            for asked in taken:
                asked.answer.cancel()

    async def _hand_out(self, taken: list[_Asked[Q, A]]) -> None:
        try:
            answers = await self._call([asked.question for asked in taken])
        except Exception as error:  # whatever it is, it is what was asked for
            answers = [error] * len(taken)
        for asked, answer in zip(taken, answers, strict=True):
            if asked.answer.done():
                continue
            if isinstance(answer, Exception):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)


async def answer_each(answers: Sequence[Awaitable[A]]) -> list[A | Exception]:
    """Returns the answers to the questions of one call, or what went wrong with each.

    An error that is none of ours is logged here, and told by its name and words alone: it may hold what no
    other process can read.
    """
    return [_told(answer) for answer in await asyncio.gather(*answers, return_exceptions=True)]


def _told(answer: A | BaseException) -> A | Exception:
    if not isinstance(answer, BaseException):
        return answer
    if isinstance(answer, RetrieveAllError):
        return answer
    log.error("A question of a joined call failed.", exc_info=answer)
    return RuntimeError(f"{type(answer).__name__}: {answer}")
