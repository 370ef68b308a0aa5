"""Lines in, lines out: order, errors of single lines, patience, and what may wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, cast

import pytest
from starlette.types import Message

from retrieveall.errors import InputError, Overloaded, TooLargeError
from retrieveall.text.sentences import check_text
from serve_apps import stream as stream_module
from serve_apps.access import LOCAL, Caller
from serve_apps.lines import Disconnected, LineBuffer
from serve_apps.schemas import TagOptions, TagRequest
from serve_apps.service import TagService
from serve_apps.stream import StreamLimits, Streams, StreamTagger


class Body:
    """Hands a body over in parts, then waits for ever, as a client that reads does."""

    def __init__(self, parts: Sequence[bytes], *, leaves: bool = False) -> None:
        self.messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": leaves or i < len(parts) - 1}
            for i, part in enumerate(parts)
        ]
        if leaves:
            self.messages.append({"type": "http.disconnect"})

    async def __call__(self) -> Message:
        await asyncio.sleep(0)
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


class Fake:
    """A service that answers a text with its length; some texts are refused, some calls overloaded.

    After ``answered`` calls it answers no more.
    """

    def __init__(self, *, overloaded: int = 0, answered: int | None = None, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.overloaded, self.sizes, self.answered = overloaded, list[int](), answered
        self.charged = 0
        self.at_once = self.most_at_once = self.cancelled = 0

    async def tag(self, request: TagRequest, caller: Caller, *, is_charged: bool = True) -> dict[str, Any]:
        self.charged += len(request.texts) * is_charged
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.answered is not None:
                self.answered -= 1
                if self.answered < 0:
                    await asyncio.Event().wait()
            await asyncio.sleep(self.pause_s + 0.001 * (5 - len(self.sizes) % 5))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        if self.overloaded:
            self.overloaded -= 1
            raise Overloaded("Full. Try again after 0 seconds.")
        texts = [item if isinstance(item, str) else item.text for item in request.texts]
        for text in texts:
            check_text(text)
        if "bad" in texts:
            raise InputError("a bad text")
        self.sizes.append(len(texts))
        return {"release": 3, "results": [{"entities": [], "length": len(text)} for text in texts]}

    @property
    def service(self) -> TagService:
        return cast(TagService, self)


def buffer(most: int = 1 << 20) -> LineBuffer:
    return LineBuffer(max_line_bytes=100, max_waiting_bytes=most, idle_s=60.0)


def answers(
    fake: Fake, parts: Sequence[bytes], *, max_line_bytes: int = 100, **limits: Any
) -> list[dict[str, Any]]:
    async def collected() -> list[dict[str, Any]]:
        sent: list[bytes] = []

        async def send(message: Message) -> None:
            sent.append(message.get("body", b""))

        streams = Streams(fake.service, StreamLimits(max_line_bytes=max_line_bytes, **limits))
        await streams.respond(LOCAL, TagOptions())({"type": "http"}, Body(parts), send)
        assert not streams._open
        return [json.loads(line) for line in b"".join(sent).splitlines()]

    return asyncio.run(asyncio.wait_for(collected(), 60))


def ndjson(values: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_many_lines_are_answered_in_order_in_a_few_small_requests() -> None:
    fake = Fake()
    body = ndjson("a" * (i % 7) for i in range(1000))
    parts = [body[i : i + 37] for i in range(0, len(body), 37)]
    lines = answers(fake, parts)

    assert [line["line"] for line in lines] == list(range(1, 1001))
    assert [line["length"] for line in lines] == [i % 7 for i in range(1000)]
    assert max(fake.sizes) <= stream_module.CHUNK_LINES
    assert 1 < fake.most_at_once <= stream_module.CHUNKS_AT_ONCE + 2


def test_a_broken_line_is_told_and_the_others_go_on() -> None:
    body = b'"one"\n{"text": 7}\n\nnot json\n"\\ud800"\n"bad"\n{"text": "six", "id": "6"}\n"' + b"x" * 200
    lines = answers(Fake(), [body + b'"\n"last"'])

    by_line = {line["line"]: line.get("error", {}).get("code") for line in lines}
    assert by_line == {
        1: None, 2: "bad_body", 4: "bad_body", 5: "lone_surrogate", 6: "bad_input", 7: None, 8: "too_large",
        9: None,
    }  # fmt: skip
    assert list(by_line) == sorted(by_line)


@pytest.mark.parametrize(
    "line",
    [b"9" * 5000, b'{"text": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"NaN"],
)
def test_whatever_json_cannot_read_is_a_bad_line_of_many(line: bytes) -> None:
    lines = answers(Fake(), [b'"one"\n' + line + b'\n"three"\n'], max_line_bytes=1 << 20)
    assert [one.get("error", {}).get("code") for one in lines] == [None, "bad_body", None]


def test_a_chunk_that_is_split_is_charged_once() -> None:
    fake = Fake()
    lines = answers(fake, [ndjson(["a", "bad", "c"])])

    assert [line.get("error", {}).get("code") for line in lines] == [None, "bad_input", None]
    assert (fake.charged, fake.sizes) == (3, [1, 1])


def test_a_full_service_slows_a_stream_down() -> None:
    lines = answers(Fake(overloaded=5), [ndjson(["a"] * 100)])
    assert [line["release"] for line in lines] == [3] * 100


def test_impatience_is_told_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "PATIENCE_S", -1.0)
    lines = answers(Fake(overloaded=10**9), [ndjson(["a", "b"])])
    assert [line["error"]["code"] for line in lines] == ["overloaded"] * 2


def test_a_client_that_runs_too_far_ahead_is_stopped() -> None:
    lines = answers(Fake(), [ndjson(["a" * 50] * 200)], max_waiting_bytes=1000)
    assert lines[-1]["error"]["code"] == "too_large"
    assert "Read the answers while you send" in lines[-1]["error"]["message"]


def test_a_client_that_leaves_frees_what_is_under_way() -> None:
    fake = Fake(answered=1)

    async def leave() -> None:
        lines = buffer()
        body = Body([ndjson(["a"] * 200)])
        filling = asyncio.create_task(lines.fill(body))
        answering = StreamTagger(fake.service, LOCAL, TagOptions(), lines).answers()
        assert (await anext(answering))["line"] == 1
        while not fake.at_once:
            await asyncio.sleep(0)
        await answering.aclose()
        filling.cancel()
        assert fake.at_once == 0 or await settled(fake)

    asyncio.run(leave())
    assert fake.cancelled > 0


async def settled(fake: Fake) -> bool:
    for _ in range(100):
        await asyncio.sleep(0)
    return fake.at_once == 0


def test_streams_are_counted_and_refused() -> None:
    streams = Streams(Fake().service, StreamLimits(max_streams=1))
    with streams.counted(LOCAL), pytest.raises(Overloaded, match="after 5 seconds"):
        streams.respond(LOCAL, TagOptions())
    streams.respond(LOCAL, TagOptions())


def test_a_key_holds_half_of_the_streams() -> None:
    one, other = (Caller(id=name, namespace=name) for name in ("one", "other"))
    streams = Streams(Fake().service, StreamLimits(max_streams=4))
    with streams.counted(one), streams.counted(one):
        with pytest.raises(Overloaded, match="This key has 2 streams open"):
            streams.respond(one, TagOptions())
        streams.respond(other, TagOptions())
        with streams.counted(other), streams.counted(other), pytest.raises(Overloaded, match="4 streams"):
            streams.respond(LOCAL, TagOptions())
    streams.respond(one, TagOptions())
    Streams(Fake().service, StreamLimits(max_streams=1)).respond(one, TagOptions())


class Silent(Body):
    """Says no more, or only half a line, and does not end."""

    async def __call__(self) -> Message:
        if not self.messages:
            await asyncio.sleep(0.005)
            return {"type": "http.request", "body": b"x", "more_body": True}
        return {**self.messages.pop(0), "more_body": True}


def test_a_stream_without_lines_is_ended_with_an_error() -> None:
    async def ended(fake: Fake) -> list[dict[str, Any]]:
        sent: list[bytes] = []

        async def send(message: Message) -> None:
            sent.append(message.get("body", b""))

        streams = Streams(fake.service, StreamLimits(idle_s=0.05))
        await streams.respond(LOCAL, TagOptions())({"type": "http"}, Silent([ndjson(["a", "b"])]), send)
        assert not streams._open
        return [json.loads(line) for line in b"".join(sent).splitlines()]

    lines = asyncio.run(asyncio.wait_for(ended(Fake()), 10))
    assert [line.get("length") for line in lines] == [1, 1, None]
    assert (lines[-1]["line"], lines[-1]["error"]["code"]) == (3, "deadline_exceeded")
    slow = Fake(pause_s=0.3)  # who waits for its answer is not idle
    assert [line.get("length") for line in asyncio.run(asyncio.wait_for(ended(slow), 10))] == [1, 1, None]


def test_lines_are_numbered_as_they_stand_and_leaving_is_noticed() -> None:
    async def read() -> None:
        lines = buffer()
        await lines.fill(Body([b"one\n\n", b"th", b"ree\nfo", b"ur"]))
        taken = [*await lines.take(2), *await lines.take(9)]
        assert [(line.number, line.data) for line in taken] == [(1, b"one"), (3, b"three"), (4, b"four")]
        assert await lines.take(1) == []

        gone = buffer()
        await gone.fill(Body([b"one\n"], leaves=True))
        with pytest.raises(Disconnected):
            await gone.take(1)

        full = buffer(most=10)
        await full.fill(Body([b"12345\n67890\n1"]))
        with pytest.raises(TooLargeError):
            await full.take(1)

    asyncio.run(read())


def test_a_buffer_takes_up_more_once_lines_were_taken() -> None:
    async def flow() -> int:
        lines, taken = buffer(most=200), 0
        turn = asyncio.Event()

        async def parts() -> AsyncIterator[Message]:
            for i in range(100):
                yield {"type": "http.request", "body": b"x" * 49 + b"\n", "more_body": i < 99}
                await turn.wait()
                turn.clear()

        messages = parts()
        filling = asyncio.create_task(lines.fill(lambda: anext(messages)))
        while got := await lines.take(5):
            taken += len(got)
            turn.set()
        await filling
        return taken

    assert asyncio.run(flow()) == 100
