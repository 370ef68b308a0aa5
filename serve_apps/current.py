"""The release that the ingress stamps on requests, and how it moves on to the next. No Ray in here.

A new release is stamped only once its adapters were read whole and every stage has opened it; until
then, and for as long as it is broken, the one before goes on answering. Where there is none before, what
is whole is answered for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from retrieveall.errors import (
    BrokenArtefactError,
    ConflictError,
    RetrieveAllError,
    ServiceUnavailable,
    UnknownLanguageError,
)
from retrieveall.opening import OpenRelease
from serve_apps.held import MEND_EVERY_S, Holding
from serve_apps.opened import ReleaseSource
from serve_apps.threads import Threads

START_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 600.0  # of a release by a stage: routing settings may have to be fitted first
ASK_TIMEOUT_S = 5.0
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

    def faults(self) -> dict[str, str]:
        """Returns what any of the replicas cannot answer, by language."""
        return {
            code: f"{holding.stage} {holding.replica}: {fault}"
            for _, holding in self._seen.values()
            for code, fault in holding.faults.items()
        }

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
                "faults": dict(holding.faults),
                "seen_s_ago": round(now_s - seen_s, 1),
            }
            for seen_s, holding in sorted(self._seen.values(), key=lambda s: (s[1].stage, s[1].replica))
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """A release that every stage has opened.

    Attributes:
        broken: Adapters that cannot be read, by language.
        unread: Languages whose adapters are still to be read.
        faults: What is broken, indexes too.
    """

    opened: OpenRelease
    broken: dict[str, str]
    unread: set[str]
    faults: dict[str, str]


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
        self._lost: str | None = None  # why nothing can be asked of the workspace
        self._refused: str | None = None  # why the newest release is not taken up
        self._broken: dict[str, str] = {}
        self._unread: set[str] = set()  # languages whose adapters are to be read whole
        self._read_s = -MEND_EVERY_S
        self.board = ReplicaBoard(clock)

    @property
    def problem(self) -> str | None:
        """Why the newest release does not answer, if it does not."""
        return self._lost or self._refused

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong with the release that answers, by language; the other languages are answered."""
        return {**self.board.faults(), **self._broken}

    @property
    def opened(self) -> OpenRelease:
        """The release to stamp; hold on to it for as long as a request takes.

        Raises:
            ServiceUnavailable: No release was opened yet.
        """
        if self._opened is None:
            raise ServiceUnavailable(  # `problem` may name files, which are no business of every key's
                "The service has no release open yet; `GET /v1/replicas` tells admins why. Try again after 2"
                " seconds."
            )
        return self._opened

    @property
    def number(self) -> int | None:
        """Number of the release that answers; None before there is one."""
        return None if self._opened is None else self._opened.release.number

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
            fallback = None
            for number in await self._candidates():
                if self._opened is not None and number <= self._opened.release.number:
                    break
                if not now and not self._may_try(number):
                    continue
                prepared = await self._prepare(number)
                if prepared is not None and not prepared.faults:
                    self._stamp(prepared)
                    break
                fallback = fallback or prepared
            if self._opened is None and fallback is not None:
                self._stamp(fallback)
        return self.opened.release.number

    async def _candidates(self) -> tuple[int, ...]:
        try:
            numbers = await self._threads.run(self._source.candidates)
        except (RetrieveAllError, OSError) as error:
            if self._lost is None:
                log.warning("The workspace cannot be asked for releases: %s", error)
            self._lost = str(error)
            return ()
        self._lost = None
        return numbers

    async def reload(self, language: str) -> dict[str, Any]:
        """Takes up the newest release at once and reads a language's adapter whole.

        Raises:
            ConflictError: The service was started for one release.
            UnknownLanguageError: The release has no adapter for the language.
            BrokenArtefactError: The adapter's files were changed or are broken.
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
        broken = await self._threads.run(self._source.broken_adapters, self.opened, (language,))
        if broken:
            raise BrokenArtefactError(broken[language])
        await self.ask_replicas()
        return {"release": number, "language": language, "adapter": entry.adapter, "index": entry.index}

    async def ask_replicas(self) -> None:
        """Asks one replica of every stage what it holds; it opens the stamped release if it has not."""
        number = self.opened.release.number
        async with asyncio.timeout(ASK_TIMEOUT_S):
            for holding in await asyncio.gather(*(stage.hold(number) for stage in self._stages)):
                self.board.saw(holding)

    async def read_adapters(self) -> None:
        """Reads adapters whole that no release before has served, and from time to time the broken ones."""
        opened = self._opened
        if opened is None or not self._unread or self._clock() - self._read_s < MEND_EVERY_S:
            return
        self._read_s = self._clock()
        broken = await self._threads.run(self._source.broken_adapters, opened, self._unread)
        if opened is self._opened:
            self._broken, self._unread = broken, set(broken)

    def _may_try(self, number: int) -> bool:
        failed, again_s, _ = self._failed
        return number != failed or self._clock() >= again_s

    async def _prepare(self, number: int) -> _Prepared | None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                opened, broken, unread = await self._threads.run(self._read, number)
                holdings = await asyncio.gather(*(stage.hold(number) for stage in self._stages))
        except Exception as error:
            known = isinstance(error, (RetrieveAllError, OSError))
            log.warning("Release %d cannot be opened.", number, exc_info=not known)
            self._fail(number, str(error) if known else type(error).__name__)
            return None
        faults = dict(broken)
        for holding in holdings:
            self.board.saw(holding)
            faults |= holding.faults
        if faults:
            self._fail(number, "; ".join(f"{code}: {fault}" for code, fault in sorted(faults.items())))
        return _Prepared(opened=opened, broken=broken, unread=unread, faults=faults)

    def _stamp(self, prepared: _Prepared) -> None:
        number = prepared.opened.release.number
        self._opened, self._broken = prepared.opened, prepared.broken
        self._unread = prepared.unread
        self._read_s = self._clock() - MEND_EVERY_S
        if number >= self._failed[0]:
            self._refused = None
        log.info("Release %d answers.", number)

    def _read(self, number: int) -> tuple[OpenRelease, dict[str, str], set[str]]:
        """Reads a release and its new adapters; those of the first one later: nothing else answers."""
        opened = self._source.read(number)
        if not self._source.adapters_before(number):
            return opened, {}, set(opened.adapters)
        broken = self._source.broken_adapters(opened, self._source.new_languages(opened))
        return opened, broken, set(broken)

    def _fail(self, number: int, reason: str) -> None:
        before, _, waited_s = self._failed
        wait_s = min(_MAX_RETRY_S, 2 * waited_s) if before == number and waited_s else 1.0
        self._failed = (number, self._clock() + wait_s, wait_s)
        self._refused = f"Release {number} cannot be served: {reason}"
        log.warning("%s", self._refused)
