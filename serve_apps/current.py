"""The release that the ingress stamps on requests, and how it moves on to the next. No Ray in here.

A new release is stamped only once its adapters were read whole and every stage has opened it; until
then, and for as long as it is broken, the one before goes on answering.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from retrieveall.errors import ConflictError, RetrieveAllError, ServiceUnavailable, UnknownLanguageError
from retrieveall.opening import OpenRelease
from serve_apps.held import Holding
from serve_apps.opened import ReleaseSource
from serve_apps.threads import Threads

START_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 600.0  # of a release by a stage: routing settings may have to be fitted first
_START_RETRY_S = 0.2
_MAX_RETRY_S = 30.0
_SHOWN_S = 60.0  # a replica that was silent for so long is gone

log = logging.getLogger(__name__)


class Stage(Protocol):
    """A part of the graph."""

    async def hold(self, release: int) -> Holding:
        """Opens a release unless it is open; returns what the replica that was asked holds."""
        ...


@dataclass
class ReplicaBoard:
    """What each replica said last of what it holds.

    Serve chooses which replica is asked, so one of many may be seen only after some seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[float, Holding]] = field(default_factory=dict)

    def saw(self, holding: Holding) -> None:
        """Remembers what a replica said."""
        self._seen[holding.replica] = (self.clock(), holding)

    def rows(self) -> list[dict[str, Any]]:
        """Returns a JSON row per replica that was heard of within a minute."""
        now_s = self.clock()
        self._seen = {name: seen for name, seen in self._seen.items() if now_s - seen[0] < _SHOWN_S}
        return [
            {
                "stage": holding.stage,
                "replica": holding.replica,
                "releases": list(holding.releases),
                "adapters": list(holding.adapters),
                "seen_s_ago": round(now_s - seen_s, 1),
            }
            for seen_s, holding in sorted(self._seen.values(), key=lambda s: (s[1].stage, s[1].replica))
        ]


class CurrentRelease:
    """Answers which release a request is stamped with.

    Args:
        source: Where releases are published.
        stages: All that must have opened a release before it is stamped.
        threads: Where files are read.
        clock: Seconds, for the time between two tries of a broken release.
    """

    def __init__(
        self,
        source: ReleaseSource,
        stages: tuple[Stage, ...],
        threads: Threads,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._stages, self._threads, self._clock = source, stages, threads, clock
        self._opened: OpenRelease | None = None
        self._lock = asyncio.Lock()
        self._failed: tuple[int, float, float] = (0, 0.0, 0.0)  # number, next try, wait before it
        self.problem: str | None = None
        self.board = ReplicaBoard(clock)

    @property
    def opened(self) -> OpenRelease:
        """The release to stamp; hold on to it for as long as a request takes.

        Raises:
            ServiceUnavailable: No release was opened yet.
        """
        if self._opened is None:
            raise ServiceUnavailable("The service is opening its release. Try again after 2 seconds.")
        return self._opened

    async def start(self) -> None:
        """Waits some seconds for the stages, so that a replica which starts late refuses nobody."""
        until_s = self._clock() + START_TIMEOUT_S
        while self._opened is None and self._clock() < until_s:
            try:
                await self.take_up()
            except RetrieveAllError:  # what is wrong stands in `problem`
                await asyncio.sleep(_START_RETRY_S)

    async def take_up(self, *, now: bool = False) -> int:
        """Moves on to the newest release that can be opened.

        Args:
            now: Also try one again that failed a moment ago.

        Returns:
            The number of the release that is stamped from here on.

        Raises:
            ServiceUnavailable: None can be opened.
        """
        async with self._lock:
            for number in await self._threads.run(self._source.candidates):
                if self._opened is not None and number <= self._opened.release.number:
                    break
                if (now or self._may_try(number)) and await self._try(number):
                    break
        return self.opened.release.number

    async def reload(self, language: str) -> dict[str, Any]:
        """Takes up the newest release at once and reads a language's adapter whole.

        Raises:
            ConflictError: The service was started for one release.
            UnknownLanguageError: The release has no adapter for the language.
            InputError: The adapter's files were changed or are broken.
        """
        if self._source.pinned is not None:
            raise ConflictError(
                f"This service answers for release {self._source.pinned} only. Start it without --release"
                " to have it follow the current one."
            )
        number = await self.take_up(now=True)
        entry = self.opened.release.languages.get(language)
        if entry is None:
            raise UnknownLanguageError(
                f"Language {language!r} was given, release {number} has adapters for:"
                f" {', '.join(sorted(self.opened.release.languages))}."
            )
        await self._threads.run(self._source.workspace.pool.verify, entry.adapter)
        await self.ask_replicas()
        return {"release": number, "language": language, "adapter": entry.adapter, "index": entry.index}

    async def ask_replicas(self) -> None:
        """Asks one replica of every stage what it holds; it opens the stamped release if it has not."""
        number = self.opened.release.number
        for holding in await asyncio.gather(*(stage.hold(number) for stage in self._stages)):
            self.board.saw(holding)

    def _may_try(self, number: int) -> bool:
        failed, again_s, _ = self._failed
        return number != failed or self._clock() >= again_s

    async def _try(self, number: int) -> bool:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                opened = await self._threads.run(self._read, number)
                holdings = await asyncio.gather(*(stage.hold(number) for stage in self._stages))
        except Exception as error:
            self._fail(number, error)
            return False
        for holding in holdings:
            self.board.saw(holding)
        self._opened = opened
        if number >= self._failed[0]:
            self.problem = None
        log.info("Release %d answers.", number)
        return True

    def _read(self, number: int) -> OpenRelease:
        opened = self._source.read(number)
        self._source.verify(opened)
        return opened

    def _fail(self, number: int, error: Exception) -> None:
        before, _, waited_s = self._failed
        wait_s = min(_MAX_RETRY_S, 2 * waited_s) if before == number and waited_s else 1.0
        self._failed = (number, self._clock() + wait_s, wait_s)
        reason = str(error) if isinstance(error, RetrieveAllError) else type(error).__name__
        self.problem = f"Release {number} cannot be served: {reason}"
        log.warning("%s", self.problem, exc_info=not isinstance(error, RetrieveAllError))
