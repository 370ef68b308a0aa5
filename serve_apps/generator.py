"""The generator's deployment: prompts and decoding. No Ray in here.

Rows of all languages from all requests meet in the engine's own queue and share its batches; the
adapter is an ordinary field of a row, so rows of two releases share them too. A request holds one
thread, which renders its prompts and then waits for the engine.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Self

from retrieveall.engine.protocol import Decoded, Engine, EngineStats, Row
from retrieveall.errors import (
    BrokenArtefactError,
    EngineClosed,
    IncompatibleArtefactError,
    InputError,
    MemoryLimitError,
    NotFoundError,
    TooLargeError,
)
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.opening import OpenRelease, open_engine
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import DEFAULT_BUDGET_TOKENS
from serve_apps.args import ServeArgs
from serve_apps.held import Follower, HeldReleases, Holding
from serve_apps.measuring import EngineMeter
from serve_apps.metrics import RELEASE_HELD, Recorder
from serve_apps.opened import ReleaseSource
from serve_apps.threads import Threads

log = logging.getLogger(__name__)


class GeneratorStage:
    """Tags the sentences of one request.

    Args:
        held: The releases, read and checked against the base.
        engine: Decodes rows; closed with the stage.
        codec: The engine's.
        threads: One per request.
        budget_tokens: Longest prompt.
        replica: Name of the replica.
    """

    def __init__(
        self,
        held: HeldReleases[OpenRelease],
        engine: Engine,
        codec: PromptCodec,
        threads: Threads,
        *,
        budget_tokens: int = DEFAULT_BUDGET_TOKENS,
        replica: str = "",
    ) -> None:
        self._held, self._engine, self._codec = held, engine, codec
        self._threads, self._budget_tokens, self._replica = threads, budget_tokens, replica
        self._broken: dict[str, str] = {}  # adapter digest → what is wrong; kept until it answers again

    @classmethod
    def open(cls, args: ServeArgs, recorder: Recorder, *, replica: str = "") -> Self:
        """Opens the stage; blocks for as long as that takes."""
        source = ReleaseSource.of(args)
        held = HeldReleases(lambda number, _: source.read(number))
        held.wait_for_first(source)
        settings, sizes = source.workspace.settings(), args.generator
        opened = held.get(held.numbers[-1])
        device = "cuda" if sizes.gpus else "cpu"
        engine = open_engine(source.workspace, opened, settings, threads=sizes.library_threads, device=device)
        meter = EngineMeter(engine.stats, partial(_languages, held), recorder)

        def measure(release: int) -> None:
            recorder.record(RELEASE_HELD, release)
            meter.measure()

        Follower(source, held, every_s=args.release_poll_s, measure=measure)
        return cls(
            held,
            engine,
            engine.codec,
            Threads("generator", sizes.threads, library_threads=sizes.library_threads),
            budget_tokens=settings.prompt.budget_tokens,
            replica=replica,
        )

    async def hold(self, release: int) -> Holding:
        """Reads a release unless it is read; returns what is held."""
        await self._threads.run(self._held.get, release)
        return Holding(
            stage="generator",
            replica=self._replica,
            releases=self._held.numbers,
            adapters=self._engine.stats().adapters,
            faults=self._faults(release),
        )

    def _faults(self, release: int) -> dict[str, str]:
        adapters = self._held.get(release).adapters.items()
        return {code: self._broken[a.digest] for code, a in adapters if a.digest in self._broken}

    async def generate(
        self, release: int, tasks: Sequence[GenerationTask], timeout_s: float
    ) -> list[Generated]:
        """Returns the answers of S sentences; cancelling frees their rows.

        Args:
            release: Whose adapters the tasks name.
            tasks: S sentences with their adapters and examples.
            timeout_s: Time left; a duration, because clocks of two machines differ.

        Raises:
            DeadlineExceeded: The time passed.
            Overloaded: The engine's queue is full.
            TooLargeError: A sentence needs more memory than the engine has for rows.
            BrokenArtefactError: An adapter cannot be read, or does not fit into the engine's memory.
        """
        deadline_s = time.monotonic() + timeout_s
        timed = [replace(task, deadline_s=deadline_s) for task in tasks]
        rows = RequestRows(self._engine)
        try:
            return await self._threads.run(self._generate, release, rows, timed)
        except asyncio.CancelledError:
            rows.cancel()
            raise

    def _generate(self, release: int, rows: RequestRows, tasks: Sequence[GenerationTask]) -> list[Generated]:
        self._held.get(release)
        digests = {digest for task in tasks for digest, _ in task.adapters}
        try:
            answers = Generator(rows, self._codec, budget_tokens=self._budget_tokens).generate(tasks)
        except TooLargeError:
            raise
        except _ADAPTER_ERRORS as error:  # texts were checked before they came here
            named = sorted(digest for digest in digests if digest in str(error))
            self._broken |= dict.fromkeys(named, str(error))
            log.warning("%s", error)  # it names files, which are no business of who asks
            raise BrokenArtefactError(
                f"The adapter {' or '.join(named or sorted(digests))} cannot be used for the moment."
                " Try again after 30 seconds."
            ) from error
        for digest in self._broken.keys() & digests:
            self._broken.pop(digest, None)
        return answers

    def close(self) -> None:
        """Stops the engine; what waits fails with `EngineClosed`."""
        self._engine.close()
        self._threads.close()


_ADAPTER_ERRORS = (InputError, NotFoundError, IncompatibleArtefactError, MemoryLimitError)


def _languages(held: HeldReleases[OpenRelease]) -> dict[str, str]:
    """Returns the language of each adapter of the held releases."""
    adapters = (adapter for opened in held.all() for adapter in opened.adapters.values())
    return {adapter.digest: adapter.language for adapter in adapters}


class RequestRows:
    """The rows of one request: an engine whose rows can be cancelled together, from any thread.

    Args:
        engine: The engine that all requests share.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._futures: list[Future[Decoded]] = []
        self._cancelled = False

    def submit(self, row: Row) -> Future[Decoded]:
        """Queues a row.

        Raises:
            Overloaded: The queue is full.
            EngineClosed: The request was cancelled, or the engine closed.
        """
        with self._lock:
            if self._cancelled:
                raise EngineClosed("The request was cancelled. Send it again if it is still wanted.")
            future = self._engine.submit(row)
            self._futures.append(future)
        return future

    def cancel(self) -> None:
        """Frees all rows of the request; whoever waits for one goes on with an error."""
        with self._lock:
            self._cancelled = True
            futures, self._futures = self._futures, []
        for future in futures:
            future.cancel()

    def stats(self) -> EngineStats:
        """Returns the engine's counters."""
        return self._engine.stats()

    def close(self) -> None:
        """Frees the rows; the engine belongs to all requests and stays open."""
        self.cancel()
