"""Questions of several requests in one call: when they join, and that each has its own fate."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence

import pytest

from retrieveall.errors import InputError, ServiceUnavailable
from serve_apps.joining import MOST_JOINED, MOST_UNDER_WAY, JoinedCalls, answer_each

WHOSE = contextvars.ContextVar("whose", default="nobody")


class Stage:
    """Answers a word with its capitals once it is let; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.seen: list[str] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.fail: Exception | None = None
        self.calls = JoinedCalls[str, str](self.answer)

    async def answer(self, words: list[str]) -> Sequence[str | Exception]:
        self.asked.append(words)
        self.seen.append(WHOSE.get())
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fail:
            raise self.fail
        return await answer_each([self.one(word) for word in words])

    async def one(self, word: str) -> str:
        if word == "bad":
            raise InputError("bad was given, expected a word.")
        if word == "broken":
            raise KeyError(word)
        return word.upper()

    def ask(self, word: str, size: int = 1) -> asyncio.Task[str]:
        return asyncio.create_task(self.calls.ask(word, size=size))


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_question_goes_out_at_once_while_few_calls_are_under_way() -> None:
    async def run() -> None:
        stage = Stage()
        tasks = [stage.ask(word) for word in ("a", "b")]
        await settled()
        assert stage.asked == [["a"], ["b"]]
        stage.open.set()
        assert await asyncio.gather(*tasks) == ["A", "B"]
        assert await stage.ask("c") == "C"
        assert stage.asked[2:] == [["c"]]

    asyncio.run(run())
    assert MOST_UNDER_WAY == 2


def test_questions_join_while_calls_are_under_way() -> None:
    async def run() -> None:
        stage = Stage()
        tasks = [stage.ask(word) for word in "abcdef"]
        await settled()
        assert stage.asked == [["a"], ["b"]]
        stage.open.set()
        assert await asyncio.gather(*tasks) == list("ABCDEF")
        assert stage.asked == [["a"], ["b"], list("cdef")]

    asyncio.run(run())


def test_a_full_call_goes_out_however_many_are_under_way() -> None:
    async def run() -> None:
        stage = Stage()
        words = [f"w{number}" for number in range(MOST_UNDER_WAY + MOST_JOINED // 4 + 1)]
        tasks = [stage.ask(word, size=4) for word in words]
        await settled()
        assert [len(call) for call in stage.asked] == [1, 1, MOST_JOINED // 4]
        stage.open.set()
        assert await asyncio.gather(*tasks) == [word.upper() for word in words]

    asyncio.run(run())


def test_a_question_of_many_sentences_goes_alone_and_nothing_waits_for_it() -> None:
    async def run() -> None:
        stage = Stage()
        tasks = [stage.ask(word, size=512) for word in ("x", "y", "z")] + [stage.ask("a")]
        await settled()
        assert stage.asked == [["x"], ["y"], ["z"], ["a"]]
        stage.open.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_what_goes_wrong_with_one_question_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        stage = Stage()
        tasks = [stage.ask(word) for word in ("a", "b", "bad", "good", "broken")]
        await settled()
        stage.open.set()
        first, second, bad, good, broken = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, second, good) == ("A", "B", "GOOD")
        assert isinstance(bad, InputError) and "expected a word" in str(bad)
        assert isinstance(broken, RuntimeError) and str(broken) == "KeyError: 'broken'"

    asyncio.run(run())
    assert len(caplog.records) == 1 and caplog.records[0].exc_info is not None


def test_a_call_that_fails_fails_all_of_its_questions_and_no_others() -> None:
    async def run() -> None:
        stage = Stage()
        stage.fail = ServiceUnavailable("Gone. Try again after 2 seconds.")
        tasks = [stage.ask(word) for word in "abcd"]
        await settled()
        stage.open.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in found] == [ServiceUnavailable] * 4
        stage.fail = None
        assert await stage.ask("e") == "E"

    asyncio.run(run())


def test_who_leaves_takes_nobody_along_and_the_last_one_takes_the_call() -> None:
    async def run() -> None:
        stage = Stage()
        first, second, *joined = [stage.ask(word) for word in "abcde"]
        await settled()
        joined[0].cancel()  # before its call
        first.cancel()  # alone in its call
        await settled()
        assert (stage.cancelled, stage.asked) == (1, [["a"], ["b"], ["d", "e"]])
        joined[1].cancel()  # in a call with another
        await settled()
        assert stage.cancelled == 1
        stage.open.set()
        assert (await second, await joined[2]) == ("B", "E")
        assert await stage.ask("f") == "F"

    asyncio.run(run())


def test_a_call_that_is_cancelled_from_below_leaves_nobody_waiting() -> None:
    async def cancelled(_: list[str]) -> list[str | Exception]:
        raise asyncio.CancelledError

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(JoinedCalls[str, str](cancelled).ask("a", size=1), timeout=5)

    asyncio.run(run())


def test_a_call_is_made_in_nobodys_context() -> None:
    async def run() -> list[str]:
        stage = Stage()
        stage.open.set()
        WHOSE.set("first")
        await stage.ask("a")
        return stage.seen

    assert asyncio.run(run()) == ["nobody"]
