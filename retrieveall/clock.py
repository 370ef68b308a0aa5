"""The time as artefacts and keys carry it; passed in wherever something is made of it."""

from __future__ import annotations

import datetime


def utc_now() -> str:
    """Returns the time in UTC as ISO 8601, to the second, such as ``2026-01-01T00:00:00+00:00``."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
