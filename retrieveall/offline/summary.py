"""What a finished job did: ``summary.json`` and the page beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from retrieveall.frozen import to_dict
from retrieveall.offline.fragments import FilePlan
from retrieveall.offline.job import TagJob, read_statistics
from retrieveall.offline.statistics import Statistics, merge_statistics

FORMAT_VERSION = 1
_READERS = 16  # footers are read side by side: a remote store answers slowly


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCount:
    """One file of the input."""

    file: str
    rows: int
    fragments: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TagSummary:
    """The whole job, whatever number of runs it took.

    Attributes:
        job: The content of ``job.json``.
        output: Where the rows are.
        files: Of the input.
        ignored: Files of the input's folder whose ending says no format.
        statistics: Counts over all rows.
        reused_rows: Rows that were done before this run.
        seconds: Of this run, planning left out.
        rows_per_s: Of this run; None where it tagged nothing.
    """

    job: Mapping[str, Any]
    output: str
    files: tuple[FileCount, ...]
    ignored: tuple[str, ...]
    statistics: Statistics
    reused_rows: int
    seconds: float
    rows_per_s: float | None
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary as JSON values."""
        return {**to_dict(self), "labels": self.statistics.labels}


def count_files(plans: Sequence[FilePlan]) -> tuple[FileCount, ...]:
    """Returns rows and fragments of each file."""
    return tuple(FileCount(file=p.file, rows=p.rows, fragments=len(p.fragments)) for p in plans)


def all_statistics(job: TagJob, paths: Sequence[str]) -> Statistics:
    """Returns the counts of all fragments, read from their files."""
    with ThreadPoolExecutor(_READERS) as pool:
        return merge_statistics(list(pool.map(lambda path: read_statistics(job.output, path), paths)))
