"""What an ingress replica does beside answering: each second it looks for changes. No Ray in here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from serve_apps import metrics
from serve_apps.access import Access
from serve_apps.current import CurrentRelease
from serve_apps.metrics import Recorder
from serve_apps.rates import TextRates
from serve_apps.threads import Threads

log = logging.getLogger(__name__)


class Upkeep:
    """Follows releases, keys and the number of ingress replicas.

    Args:
        current: Moved on to new releases.
        access: Made to read its keys again.
        rates: Told how many replicas share them.
        threads: Where files are read.
        recorder: Where measurements go; Ray forgets a gauge that is not set again.
        in_flight: Returns the number of requests that are being answered.
        every_s: Time between two looks.
        count_replicas: Blocks, and returns the number of live ingress replicas.
    """

    def __init__(
        self,
        current: CurrentRelease,
        access: Access,
        rates: TextRates,
        threads: Threads,
        recorder: Recorder,
        *,
        in_flight: Callable[[], int],
        every_s: float,
        count_replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self._current, self._access, self._rates = current, access, rates
        self._threads, self._recorder, self._in_flight = threads, recorder, in_flight
        self._every_s, self._count_replicas = every_s, count_replicas

    async def start(self) -> None:
        """Waits some seconds for the first release."""
        await self._current.start()

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        current = self._current
        while True:
            await asyncio.sleep(self._every_s)
            for chore in (
                self._look_at_keys,
                current.take_up,
                self._measure,
                current.ask_replicas,
                current.read_adapters,
            ):
                try:
                    await chore()
                except Exception as error:  # a stage that restarts, a store that does not answer: next time
                    log.warning("%s: %s", type(error).__name__, error)

    async def _measure(self) -> None:
        self._recorder.record(metrics.IN_FLIGHT, self._in_flight())
        self._recorder.record(metrics.RELEASE, self._current.opened.release.number)
        is_degraded = bool(self._current.problem or self._current.faults)
        self._recorder.record(metrics.RELEASE_PROBLEM, float(is_degraded))

    async def _look_at_keys(self) -> None:
        await self._threads.run(self._access.refresh)
        if self._access.has_rates:
            self._rates.replicas = max(1, await self._threads.run(self._count_replicas))
