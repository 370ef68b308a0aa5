"""What commands write: reports on stdout, everything else on stderr.

With ``--json`` stdout holds one JSON value and nothing else, whatever libraries and worker
processes print meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from retrieveall.lora.card import DevScores


def print_json(value: Any) -> None:
    """Writes one JSON value and a newline to stdout; non-ASCII characters stay as they are."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """Writes one line of a report to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Writes one line for the person who waits to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Writes a table to stdout; cells that are numbers stand to the right."""
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) or row[index] == "" for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    print_tables([table])


def print_tables(tables: Iterable[RichTable]) -> None:
    """Writes tables of rich to stdout, as wide as the terminal; 140 columns where there is none."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 140)
    for table in tables:
        console.print(table)


def _cell(value: object) -> str:
    from rich.markup import escape

    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def dev_text(dev: DevScores | None, *, synthetic: bool = False) -> str:
    """Returns a dev F1 with its interval as a table shows it; nothing where it was not measured."""
    if dev is None:
        return ""
    return f"{dev.f1:.3f} [{dev.f1_low:.3f} {dev.f1_high:.3f}]" + (" (SYNTHETIC)" if synthetic else "")


@contextlib.contextmanager
def libraries_on_stderr() -> Iterator[None]:
    """Sends all that is written to stdout inside the block to stderr, child processes included."""
    sys.stdout.flush()
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # a test's buffer stands in for stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    kept = os.dup(descriptor)
    os.dup2(sys.stderr.fileno(), descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)
