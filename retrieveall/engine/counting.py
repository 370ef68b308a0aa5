"""The counters of an engine."""

from __future__ import annotations

import threading

from retrieveall.engine.protocol import Decoded, EngineStats, MemoryUse


class EngineCounters:
    """Counts what an engine did. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows_done = self._rows_failed = 0
        self._batches = self._forward_passes = 0
        self._prompt_tokens = self._new_tokens = 0
        self._drafted_tokens = self._accepted_tokens = 0
        self._splits = 0

    def batch(self) -> None:
        """Counts one batch."""
        with self._lock:
            self._batches += 1

    def forward_passes(self, passes: int) -> None:
        """Counts forward passes of the model, whatever number of rows they held."""
        with self._lock:
            self._forward_passes += passes

    def drafts(self, drafted: int, accepted: int) -> None:
        """Counts draft tokens that were tried, and those of them that were chosen."""
        with self._lock:
            self._drafted_tokens += drafted
            self._accepted_tokens += accepted

    def done(self, decoded: Decoded) -> None:
        """Counts one row and its tokens."""
        with self._lock:
            self._rows_done += 1
            self._prompt_tokens += decoded.prompt_tokens
            self._new_tokens += decoded.new_tokens

    def failed(self) -> None:
        """Counts one row that was cancelled, came too late or could not be decoded."""
        with self._lock:
            self._rows_failed += 1

    def split(self) -> None:
        """Counts one batch that was halved."""
        with self._lock:
            self._splits += 1

    def snapshot(
        self, *, rows_waiting: int, adapters: tuple[str, ...] = (), memory: MemoryUse | None = None
    ) -> EngineStats:
        """Returns the counters as they stand now."""
        with self._lock:
            return EngineStats(
                rows_done=self._rows_done,
                rows_failed=self._rows_failed,
                rows_waiting=rows_waiting,
                batches=self._batches,
                prompt_tokens=self._prompt_tokens,
                new_tokens=self._new_tokens,
                forward_passes=self._forward_passes,
                adapters=adapters,
                drafted_tokens=self._drafted_tokens,
                accepted_tokens=self._accepted_tokens,
                splits=self._splits,
                memory=memory or MemoryUse(),
            )
