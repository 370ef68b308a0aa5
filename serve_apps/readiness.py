"""What `GET /readyz` says: anybody may ask it, so it says little and costs little. No Ray in here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from retrieveall.errors import ServiceUnavailable
from serve_apps.current import CurrentRelease

FRESH_S = 1.0
"""Probes of many load balancers, or of anybody, together ask the replicas once in this time."""


class Readiness:
    """Tells whether everything behind the ingress answers; what is wrong is for admins (`/v1/replicas`).

    Args:
        current: Asks the replicas.
        clock: Seconds.
    """

    def __init__(self, current: CurrentRelease, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._current, self._clock = current, clock
        self._asked_s = float("-inf")
        self._kept: dict[str, Any] | None = None
        self._lock = asyncio.Lock()

    async def body(self) -> dict[str, Any]:
        """Returns the body of `GET /readyz`, at most `FRESH_S` old.

        Raises:
            ServiceUnavailable: No release is open, or a stage does not answer.
        """
        async with self._lock:
            if self._clock() - self._asked_s >= FRESH_S:
                self._asked_s, self._kept = self._clock(), await self._asked()
        if self._kept is None:
            raise ServiceUnavailable(
                "Not every part of the service answers yet; `GET /v1/replicas` tells admins why. Try again"
                " after 2 seconds."
            )
        return self._kept

    async def _asked(self) -> dict[str, Any] | None:
        try:
            number = self._current.opened.release.number
            await self._current.ask_replicas()
        except Exception:  # whatever is wrong with a stage, it is not ready
            return None
        is_whole = not (self._current.problem or self._current.faults)
        return {"status": "ready" if is_whole else "degraded", "release": number}
