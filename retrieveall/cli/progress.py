"""Progress bars on stderr, for everything that may take longer than two seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from retrieveall.cli.output import note


class NamedProgress(Protocol):
    """Moves one of several bars."""

    def __call__(self, name: str, done: int, total: int, text: str = "") -> None:
        """Shows how far something is.

        Args:
            name: What is worked on.
            done: The work done.
            total: The work there is; 0 where nobody knows.
            text: Stands beside the bar; default both numbers.
        """
        ...


Progress: TypeAlias = Callable[[int, int], None]
"""Called with the work done and the work there is; 0 where nobody knows."""

_LONG_S = 2.0
_NOTE_EVERY_S = 10.0


@contextlib.contextmanager
def progress_bars(label: str) -> Iterator[NamedProgress]:
    """Shows one bar for each name while the block runs, then one line with the time where it took long.

    Where stderr is no terminal, as in a job of a cluster, a line now and then says how far all of them are.

    Args:
        label: What is being done, such as ``indexing``.

    Yields:
        The callback that moves the bars; it may be called from any thread.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    start_s = time.perf_counter()
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    counts = TextColumn("{task.fields[count]}")
    lines = None if console.is_terminal else _Lines(label)
    with Progress(*columns, counts, console=console, transient=True, disable=lines is not None) as bars:
        tasks = {"": bars.add_task(label, total=None, count="")}

        def move(name: str, done: int, total: int, text: str = "") -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{label} {name}", total=None, count="")
            count = text or (f"{done}/{total}" if total else f"{done}")
            bars.update(tasks[name], completed=done, total=total or None, count=count)
            if lines is not None:
                lines.move(name, count)

        yield move
    took_s = time.perf_counter() - start_s
    if took_s >= _LONG_S:
        console.print(f"{label}: {took_s:.1f} s", style="dim", highlight=False, markup=False)


class _Lines:
    """Stands in for bars where nobody could see them move."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._counts: dict[str, str] = {}
        self._told_s = time.monotonic()

    def move(self, name: str, count: str) -> None:
        """Takes note of how far something is; writes a line when the last is old enough."""
        self._counts[name] = count
        if time.monotonic() - self._told_s >= _NOTE_EVERY_S:
            self._told_s = time.monotonic()
            note(f"{self._label}: " + ", ".join(f"{a} {b}".strip() for a, b in self._counts.items()))


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Shows a single bar; see `progress_bars`."""
    with progress_bars(label) as move:
        yield lambda done, total: move("", done, total)
