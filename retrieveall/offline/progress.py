"""How far a job is: rows, speed, time left, and what was found per language."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retrieveall.offline.statistics import Statistics

_SHOWN_LANGUAGES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class TagProgress:
    """One moment of a job.

    Attributes:
        done: Rows whose output stands, those of earlier runs included.
        total: Rows of the input.
        rows_per_s: Of this run; None before its first fragment.
        languages: Sentences by language, most first, of this run.
        errors: Rows with an error, of this run.
    """

    done: int
    total: int
    rows_per_s: float | None
    languages: Mapping[str, int]
    errors: int

    @property
    def left_s(self) -> float | None:
        """Time left at the speed so far; None before that is known."""
        return (self.total - self.done) / self.rows_per_s if self.rows_per_s else None

    def line(self) -> str:
        """Returns the moment as one line for a person."""
        parts = [f"{self.done:,}/{self.total:,} rows"]
        if self.rows_per_s and self.left_s is not None:
            parts += [f"{self.rows_per_s:,.1f} rows/s", f"{duration(self.left_s)} left"]
        shown = list(self.languages.items())[:_SHOWN_LANGUAGES]
        parts += [" ".join(f"{code} {count:,}" for code, count in shown)] if shown else []
        more = len(self.languages) - len(shown)
        parts += [f"{more} more languages"] if more else []
        return " · ".join([*parts, *([f"{self.errors:,} errors"] if self.errors else [])])


class ProgressCounter:
    """Adds up fragments as they are done.

    Args:
        total: Rows of the input.
        reused: Rows that were done before.
        clock: Seconds.
    """

    def __init__(self, total: int, reused: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._reused, self._clock = total, reused, clock
        self._started_s = clock()
        self._rows = self._errors = 0
        self._languages: Counter[str] = Counter()

    def add(self, statistics: Statistics) -> None:
        """Counts a fragment."""
        self._rows += statistics.rows
        self._errors += statistics.errors
        self._languages.update(statistics.sentences)

    def now(self) -> TagProgress:
        """Returns this moment."""
        took_s = self._clock() - self._started_s
        return TagProgress(
            done=self._reused + self._rows,
            total=self._total,
            rows_per_s=self._rows / took_s if self._rows and took_s > 0 else None,
            languages=dict(self._languages.most_common()),
            errors=self._errors,
        )


def duration(seconds: float) -> str:
    """Returns a time as a person says it, such as ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
