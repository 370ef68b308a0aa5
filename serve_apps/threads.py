"""Threads beside the event loop: a replica's loop answers health checks while they work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A fixed number of threads that run blocking functions for coroutines.

    Args:
        name: Of the threads.
        count: How many.
        library_threads: What torch and faiss may use inside each; both keep this number per thread.
    """

    def __init__(self, name: str, count: int, *, library_threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(count, name, partial(_limit_libraries, library_threads))

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function in a thread; where all are busy it waits for its turn."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Lets the threads end once they are done; what waits for a turn is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _limit_libraries(count: int) -> None:
    import faiss
    import torch

    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
