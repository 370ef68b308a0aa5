"""The generator's deployment: prompts and decoding. No Ray in here.

Rows of all languages from all requests meet in the engine's own queue and share its batches; the
adapter is an ordinary field of a row. A request holds one thread, which renders its prompts and then
waits for the engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from retrieveall.engine.protocol import Engine
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.opening import open_engine
from serve_apps.args import ServeArgs
from serve_apps.opened import open_release
from serve_apps.threads import Threads


class GeneratorStage:
    """Tags the sentences of one request.

    Args:
        release: What the base was opened from.
        generator: Prompts and decodes; thread-safe.
        engine: The generator's engine, closed with the stage.
        threads: One per request.
    """

    def __init__(self, release: int, generator: Generator, engine: Engine, threads: Threads) -> None:
        self._release, self._generator = release, generator
        self._engine, self._threads = engine, threads

    @classmethod
    def open(cls, args: ServeArgs) -> Self:
        """Opens the stage; blocks for as long as that takes."""
        workspace, opened = open_release(args)
        settings, sizes = workspace.settings(), args.generator
        engine = open_engine(workspace, opened, settings, threads=sizes.library_threads)
        generator = Generator(engine, engine.codec, budget_tokens=settings.prompt.budget_tokens)
        threads = Threads("generator", sizes.threads, library_threads=sizes.library_threads)
        return cls(opened.release.number, generator, engine, threads)

    async def release(self) -> int:
        """Returns the number of the release that answers."""
        return self._release

    async def generate(self, tasks: Sequence[GenerationTask], timeout_s: float) -> list[Generated]:
        """Returns the answers of S sentences.

        Args:
            tasks: S sentences with their adapters and examples.
            timeout_s: Time left; a duration, because clocks of two machines differ.

        Raises:
            DeadlineExceeded: The time passed.
            Overloaded: The engine's queue is full.
        """
        deadline_s = time.monotonic() + timeout_s
        timed = [replace(task, deadline_s=deadline_s) for task in tasks]
        return await self._threads.run(self._generator.generate, timed)

    def close(self) -> None:
        """Stops the engine; what waits fails with `EngineClosed`."""
        self._engine.close()
        self._threads.close()
