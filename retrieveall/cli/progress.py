"""Progress bars on stderr, for everything that may take longer than two seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

ProgressCallback: TypeAlias = Callable[[int, int], None]
"""Called with the work done and the work there is; 0 as the second means that nobody knows."""


_LONG_S = 2.0


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback]:
    """Shows a bar while the block runs, and then one line with the time where it took long.

    Where stderr is no terminal there is only the line.

    Args:
        label: What is being done, such as ``indexing nl``.

    Yields:
        The callback that moves the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    start_s = time.perf_counter()
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    count = TextColumn("{task.fields[count]}")
    with Progress(*columns, count, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None, count="")

        def move(done: int, total: int) -> None:
            bar.update(
                task, completed=done, total=total or None, count=f"{done}/{total}" if total else f"{done}"
            )

        yield move
    took_s = time.perf_counter() - start_s
    if took_s >= _LONG_S:
        console.print(f"{label}: {took_s:.1f} s", style="dim", highlight=False, markup=False)
