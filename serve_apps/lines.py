"""NDJSON in: lines of a request's body as they come, with a bound on what waits. No Ray in here.

Serve's proxy has no brake: it buffers whatever a client sends, so slowing down our reading would only
move the memory elsewhere. We read everything at once and end a stream that runs too far ahead of its
answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from starlette.types import Receive

from retrieveall.errors import DeadlineExceeded, TooLargeError


class Disconnected(Exception):
    """The client has left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line that is not blank.

    Attributes:
        number: From 1; blank lines count.
        data: Its bytes; None where they were too many to keep.
    """

    number: int
    data: bytes | None


class LineBuffer:
    """Lines that were received and not yet taken.

    Args:
        max_line_bytes: Longest line; a longer one is dropped and told.
        max_waiting_bytes: Most bytes that may wait.
        idle_s: Longest time that a line is waited for.
    """

    def __init__(self, *, max_line_bytes: int, max_waiting_bytes: int, idle_s: float) -> None:
        self._max_line_bytes, self._max_waiting_bytes = max_line_bytes, max_waiting_bytes
        self._idle_s = idle_s
        self._lines: deque[Line] = deque()
        self._waiting_bytes = self._number = 0
        self._rest = bytearray()
        self._is_too_long = False
        self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    async def fill(self, receive: Receive) -> None:
        """Reads the body to its end; what goes wrong is raised by `take`."""
        try:
            while not self._ended:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                self._feed(message.get("body", b""))
                if not message.get("more_body", False):
                    self._end()
        except Exception as error:
            self._error = error
        self._changed.set()

    async def take(self, most: int) -> list[Line]:
        """Returns the lines that are there, at least one unless the body has ended.

        Raises:
            Disconnected: The client has left.
            TooLargeError: Too many bytes were waiting.
            DeadlineExceeded: No line came for too long; it may be called again.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._lines or self._ended:
                return [self._pop() for _ in range(min(most, len(self._lines)))]
            await self._line_or_end()

    async def _line_or_end(self) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                while not (self._lines or self._ended or self._error):  # half a line does not count
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                f"No line came for {self._idle_s:g} s, so the stream is ended. Open another one once there is"
                " more to send."
            ) from None

    def too_long(self, line: Line) -> TooLargeError:
        """Returns the error of a line that was dropped."""
        return TooLargeError(
            f"Line {line.number} is longer than {self._max_line_bytes} bytes, as many as this service takes."
        )

    def _feed(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._extend(part)
            self._end_line()
        self._extend(rest)
        if self._waiting_bytes + len(self._rest) > self._max_waiting_bytes:
            raise TooLargeError(
                f"More than {self._max_waiting_bytes} bytes were sent ahead of the answers. Read the answers"
                " while you send, or send less at once."
            )
        self._changed.set()

    def _extend(self, part: bytes) -> None:
        if self._is_too_long or len(self._rest) + len(part) > self._max_line_bytes:
            self._is_too_long = True
            self._rest.clear()
        else:
            self._rest += part

    def _end_line(self) -> None:
        self._number += 1
        data = bytes(self._rest)
        if self._is_too_long or data.strip():
            self._lines.append(Line(number=self._number, data=None if self._is_too_long else data))
            self._waiting_bytes += len(data)
        self._rest.clear()
        self._is_too_long = False

    def _end(self) -> None:
        if self._rest or self._is_too_long:
            self._end_line()
        self._ended = True

    def _pop(self) -> Line:
        line = self._lines.popleft()
        self._waiting_bytes -= len(line.data or b"")
        return line
