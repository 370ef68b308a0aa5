"""Workers of the Ray that a test started, found by title and ancestry, so that the test can kill them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def workers_below(process: int, title: str) -> list[int]:
    """Returns the processes that another one has started, itself or through others, oldest first.

    Args:
        process: The driver or the raylet.
        title: What the title of a worker holds while it has the wanted work in hand.
    """
    return sorted(found for found in _titled(title) if process in _ancestors(found))


def wait_for_worker(job: subprocess.Popen[Any], title: str) -> int:
    """Waits for a worker of the Ray that a job started, and returns its process."""
    while job.poll() is None:
        if found := workers_below(job.pid, title):
            return found[0]
    raise AssertionError("the job ended before a worker could be killed")


def _titled(title: str) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if title.encode() in (folder / "cmdline").read_bytes():
                yield int(folder.name)


def _ancestors(process: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(OSError):
        while process > 1:
            status = Path(f"/proc/{process}/stat").read_text()
            process = int(status.rpartition(")")[2].split()[1])
            found.add(process)
    return found
