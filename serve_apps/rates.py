"""How many texts a key may send: one bucket per key and ingress replica. No Ray in here.

Replicas do not talk to each other: each lets a key send its rate divided by the number of live ingress
replicas. A key whose requests reach only some of them gets less than its rate, never more, but for the
seconds after that number has changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from retrieveall.errors import (
    BrokenArtefactError,
    EngineClosed,
    Overloaded,
    RateLimited,
    ServiceUnavailable,
)

_MINUTE_S = 60.0
_OURS = (BrokenArtefactError, EngineClosed, Overloaded, ServiceUnavailable)
"""What a client is told to come back for, and pays for when it does."""


@dataclass
class _Bucket:
    level: float
    filled_s: float


class TextRates:
    """Counts texts against the keys' rates.

    A key may save up one minute of its share. A request goes in while anything is left, whatever it
    holds; what it takes too much is waited for afterwards. Source: own choice.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self.replicas = 1

    @contextmanager
    def charged(self, key_id: str, texts_per_minute: int | None, texts: int) -> Iterator[None]:
        """Takes the texts of one request from a key's bucket, and puts them back where the service gives up.

        Args:
            key_id: Whose bucket.
            texts_per_minute: The key's rate over all replicas; None for any number.
            texts: How many the request holds.

        Raises:
            RateLimited: Nothing is left; the message says how long to wait.
        """
        self.spend(key_id, texts_per_minute, texts)
        try:
            yield
        except _OURS:
            if texts_per_minute is not None:
                self._buckets[key_id].level += texts  # `_filled` cuts it to a minute's worth
            raise

    def spend(self, key_id: str, texts_per_minute: int | None, texts: int) -> None:
        """Takes the texts of one request for good; arguments and errors are those of `charged`."""
        if texts_per_minute is None:
            return
        share = texts_per_minute / self.replicas
        bucket = self._filled(key_id, share)
        needed = min(1.0, share)
        if bucket.level < needed:
            wait_s = math.ceil((needed - bucket.level) * _MINUTE_S / share)
            raise RateLimited(
                f"This key may send {texts_per_minute} texts a minute, {share:g} of them to each of"
                f" {self.replicas} ingress replicas, and has sent them. Try again after {wait_s} seconds."
            )
        bucket.level -= texts

    def _filled(self, key_id: str, share: float) -> _Bucket:
        now_s = self._clock()
        bucket = self._buckets.setdefault(key_id, _Bucket(share, now_s))
        bucket.level = min(share, bucket.level + (now_s - bucket.filled_s) * share / _MINUTE_S)
        bucket.filled_s = now_s
        return bucket
