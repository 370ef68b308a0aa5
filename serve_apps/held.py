"""What a replica holds of a release, and how it comes by the next one. No Ray in here.

Every request names the release that it is answered for. A replica holds the two that were asked for
last and opens any other when a request names it, so which replica has heard of a release first never
matters; a thread opens the newest one ahead of the requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from retrieveall.errors import RetrieveAllError
from serve_apps.opened import Faults, ReleaseSource

KEPT_RELEASES = 2
MEND_EVERY_S = 30.0  # what is broken is tried again so often
_START_PATIENCE_S = 600.0  # for a workspace that comes later than the service
_START_RETRY_S = 1.0

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """What one replica says of itself.

    Attributes:
        stage: ``router``, ``retriever`` or ``generator``.
        replica: Serve's name of the replica.
        releases: Numbers of the releases that are open, oldest first.
        adapters: Digests of the adapters in memory; only the generator has any.
        faults: What the replica cannot answer of the release that was asked for.
    """

    stage: str
    replica: str
    releases: tuple[int, ...]
    adapters: tuple[str, ...] = ()
    faults: Faults = field(default_factory=dict)


class HeldReleases(Generic[T]):
    """The releases that a replica has open. Thread-safe; what is in use outlives being dropped.

    Args:
        open_one: Opens a release; given what was opened last, whose unchanged parts it may keep.
        faults: Says what is broken in one that was opened.
        clock: Seconds.
    """

    def __init__(
        self,
        open_one: Callable[[int, T | None], T],
        *,
        faults: Callable[[T], Faults] = lambda _: {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_one, self._faults, self._clock = open_one, faults, clock
        self._mended_s = clock()
        self._held: OrderedDict[int, T] = OrderedDict()
        self._lock, self._opening = threading.Lock(), threading.Lock()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The releases that are open, sorted."""
        with self._lock:
            return tuple(sorted(self._held))

    def all(self) -> tuple[T, ...]:
        """Returns what is open, asked for longest ago first."""
        with self._lock:
            return tuple(self._held.values())

    def get(self, number: int) -> T:
        """Returns what was opened for a release; opens it where it is not held."""
        found = self._found(number)
        if found is not None:
            return found[0]
        with self._opening:  # one at a time: two at once would double the memory
            found = self._found(number)
            return found[0] if found is not None else self._open(number)

    def hold(self, number: int) -> Faults:
        """Opens a release unless it is open, and from time to time again where parts of it are broken.

        Returns:
            What is broken in it.
        """
        faults = self._faults(self.get(number))
        if faults and self._clock() - self._mended_s >= MEND_EVERY_S:
            with self._opening:
                self._mended_s = self._clock()
                faults = self._faults(self._open(number))
        return faults

    def wait_for_first(self, source: ReleaseSource, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Opens the release to start with; waits some minutes for a workspace that is not there yet.

        Raises:
            RetrieveAllError: None can be opened.
        """
        until_s = self._clock() + _START_PATIENCE_S
        while True:
            try:
                return self.open_first(source)
            except (RetrieveAllError, OSError) as error:
                if self._clock() >= until_s:
                    raise
                log.warning("No release can be opened yet: %s", error)
            sleep(_START_RETRY_S)

    def open_first(self, source: ReleaseSource) -> None:
        """Opens the newest release, or the one before it where the newest is broken."""
        numbers = source.candidates()
        for number in numbers:
            try:
                self.get(number)
            except Exception as error:  # broken, whatever it is: the last candidate tells
                if number == numbers[-1]:
                    raise
                log.warning("Release %d cannot be opened, trying the one before: %s", number, error)
            else:
                return

    def _found(self, number: int) -> tuple[T] | None:
        with self._lock:
            if number not in self._held:
                return None
            self._held.move_to_end(number)
            return (self._held[number],)

    def _open(self, number: int) -> T:
        with self._lock:
            last = next(reversed(self._held.values()), None)
        opened = self._open_one(number, last)
        with self._lock:
            self._held[number] = opened
            while len(self._held) > KEPT_RELEASES:
                self._held.popitem(last=False)
        return opened


class Follower:
    """A thread that opens each new release before requests name it.

    Args:
        source: Where releases are published; a pinned one never changes.
        held: What opens them.
        every_s: How often it looks.
        measure: Called every time, with the number of the newest release that is open.
    """

    def __init__(
        self,
        source: ReleaseSource,
        held: HeldReleases[T],
        *,
        every_s: float,
        measure: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source, self._held, self._every_s, self._measure = source, held, every_s, measure
        self._seen = source.newest()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="release-follower", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread after what it is opening now."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                newest = self._source.newest()
                if newest != self._seen:
                    self._seen = newest  # a broken one is not tried again; the ingress does not send it
                    self._held.get(newest)
                self._measure(max(self._held.numbers))
            except Exception as error:  # a broken release, a store that does not answer: look again later
                log.warning("%s: %s", type(error).__name__, error)
