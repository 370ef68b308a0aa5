"""The adapters that an engine holds in memory, by digest, and those fused of several.

A thread of the bank's own loads adapters while the engine decodes. At every look at its queue the
engine says which adapters are wanted, in turn (`plan`); it takes hold of those of the rows that join
(`acquire`) and lets go of them when the rows leave (`release`). Room for an adapter comes from those
used longest ago that no row under way needs and that nobody wants who comes earlier in turn. So who
comes first gets room as soon as rows under way have left enough, and two that do not fit together
take turns instead of driving each other out.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Protocol

from retrieveall.errors import MemoryLimitError
from retrieveall.lora.weights import LoraWeights, fused, fused_bytes
from retrieveall.types import Composition

Fusion = tuple[tuple[str, float], ...]
Key = str | Fusion  # an adapter by its digest, or what is fused of some by digests and weights
Keys = tuple[Key, ...]

_CLOSE_WAIT_S = 1.0


class Standing(Enum):
    """How the adapters of a row stand."""

    HELD = "all are in memory"
    COMING = "they are being loaded, or will be"
    NO_ROOM = "there is no room for them before other rows leave or are served"


class Source(Protocol):
    """Where adapters come from, such as `LoraFiles`; called on the bank's thread."""

    def size_bytes(self, digest: str) -> int:
        """Returns the bytes that an adapter takes in memory, or raises what its rows shall fail with."""
        ...

    def load(self, digest: str) -> LoraWeights:
        """Loads it, or raises what its rows shall fail with."""
        ...


def adapter_keys(adapters: Fusion, composition: Composition) -> Keys:
    """Returns what a row needs: its adapters, and behind them what is fused of them."""
    digests = tuple(dict.fromkeys(digest for digest, _ in adapters))
    return (*digests, adapters) if composition == "fusion" and adapters else digests


class AdapterBank:
    """Loads adapters when rows wait for them and forgets those used longest ago. Thread-safe.

    Args:
        source: Loads adapters.
        capacity_bytes: Most bytes of all that is held or being loaded.
        on_failure: Called on the bank's thread with some digests and the error that rows shall fail
            with which wait for all of them. An error is not kept: later rows try again.
        on_change: Called on the bank's thread when another `plan` may have another answer.
    """

    def __init__(
        self,
        source: Source,
        capacity_bytes: int,
        *,
        on_failure: Callable[[frozenset[str], Exception], None],
        on_change: Callable[[], None],
    ) -> None:
        self._source, self._capacity_bytes = source, capacity_bytes
        self._on_failure, self._on_change = on_failure, on_change
        self._changed = threading.Condition()
        self._closed = False
        self._held: OrderedDict[Key, LoraWeights] = OrderedDict()  # used longest ago first
        self._uses: Counter[Key] = Counter()
        self._wanted: Sequence[Keys] = ()
        self._sizes_bytes: dict[Key, int] = {}
        self._size_bytes = 0  # of all that is held or being loaded
        self._loading: Key | None = None
        self._thread = threading.Thread(target=self._run, name="adapter-bank", daemon=True)
        self._thread.start()

    @property
    def digests(self) -> tuple[str, ...]:
        """The adapters held, used longest ago first."""
        with self._changed:
            return tuple(key for key in self._held if isinstance(key, str))

    @property
    def size_bytes(self) -> int:
        """Bytes of all that is held or being loaded."""
        return self._size_bytes

    def plan(self, wanted: Sequence[Keys]) -> list[Standing]:
        """Says what is wanted from now on, instead of what was wanted before.

        Args:
            wanted: What rows wait for, in turn, each as `adapter_keys` gives it.

        Returns:
            How each of them stands.
        """
        with self._changed:
            self._wanted = wanted
            spared: set[Key] = set()
            standings = []
            for keys in wanted:
                spared.update(keys)
                standings.append(self._standing(keys, spared))
            if set(standings) - {Standing.HELD}:
                self._changed.notify()
            return standings

    def acquire(self, keys: Keys) -> Mapping[Key, LoraWeights] | None:
        """Takes hold of adapters for one row: until `release` they stay. None where one is not there."""
        with self._changed:
            if any(key not in self._held for key in keys):
                return None
            for key in keys:
                self._held.move_to_end(key)
            self._uses.update(keys)
            return {key: self._held[key] for key in keys}

    def release(self, rows: Iterable[Keys]) -> None:
        """Lets go of the adapters of rows that have left."""
        with self._changed:
            for keys in rows:
                self._uses.subtract(keys)
            self._uses = +self._uses
            self._changed.notify()

    def release_all(self) -> None:
        """Lets go of the adapters of all rows."""
        with self._changed:
            self._uses.clear()
            self._changed.notify()

    def close(self) -> None:
        """Stops the thread; a load that does not end soon is left to itself and comes to nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_WAIT_S)

    def _standing(self, keys: Keys, spared: Collection[Key]) -> Standing:
        missing = [key for key in keys if key not in self._held]
        if not missing:
            return Standing.HELD
        sizes = [self._size_of(key) for key in missing if key != self._loading]
        needed_bytes = sum(size or 0 for size in sizes)
        fits = None in sizes or needed_bytes <= self._room_bytes(spared)
        return Standing.COMING if fits else Standing.NO_ROOM

    def _size_of(self, key: Key) -> int | None:
        """Bytes of something that is not held, None where that is not known yet."""
        if isinstance(key, str):
            return self._sizes_bytes.get(key)
        parts = [self._held.get(digest) for digest, _ in key]
        known = [part for part in parts if part is not None]
        return fused_bytes(known) if len(known) == len(parts) else None

    def _room_bytes(self, spared: Collection[Key]) -> int:
        """Bytes that are free or can be made free."""
        return (
            self._capacity_bytes
            - self._size_bytes
            + sum(self._held[key].size_bytes for key in self._held if self._may_go(key, spared))
        )

    def _may_go(self, key: Key, spared: Collection[Key]) -> bool:
        return key not in spared and not self._uses[key]

    def _run(self) -> None:
        while (work := self._next_work()) is not None:
            work()

    def _next_work(self) -> Callable[[], None] | None:
        """Waits for something to do; None once the bank is closed."""
        with self._changed:
            work: Callable[[], None] | None = None
            while not self._closed and (work := self._work()) is None:
                self._changed.wait()
            return None if self._closed else work

    def _work(self) -> Callable[[], None] | None:
        """Finds the first thing in turn that can be done."""
        spared: set[Key] = set()
        for keys in self._wanted:
            spared.update(keys)
            missing = [key for key in keys if key not in self._held]
            for key in missing:
                if isinstance(key, str) and key not in self._sizes_bytes:
                    return partial(self._measure, key)
            needed_bytes = sum(self._needed_bytes(key) for key in keys)
            if missing and needed_bytes > self._capacity_bytes:
                return partial(self._fail, keys, self._too_large(keys, needed_bytes))
            size_bytes = self._size_of(missing[0]) if missing else None
            missing_bytes = sum(self._needed_bytes(key) for key in missing)
            if size_bytes is not None and missing_bytes <= self._room_bytes(spared):
                self._make_room(size_bytes, spared)
                self._loading = missing[0]
                return partial(self._bring, missing[0], size_bytes)
        return None

    def _needed_bytes(self, key: Key) -> int:
        return self._held[key].size_bytes if key in self._held else self._size_of(key) or 0

    def _too_large(self, keys: Keys, needed_bytes: int) -> MemoryLimitError:
        digests = ", ".join(key for key in keys if isinstance(key, str))
        return MemoryLimitError(
            f"A row with adapters {digests} needs {needed_bytes:,} bytes for them, the engine holds at most"
            f" {self._capacity_bytes:,}. Raise `adapter_bytes`, or train adapters of a lower rank."
        )

    def _make_room(self, size_bytes: int, spared: Collection[Key]) -> None:
        going = [key for key in self._held if self._may_go(key, spared)]
        for key in going:
            if self._size_bytes + size_bytes <= self._capacity_bytes:
                break
            self._size_bytes -= self._held.pop(key).size_bytes
        self._size_bytes += size_bytes

    def _measure(self, digest: str) -> None:
        try:
            size_bytes = self._source.size_bytes(digest)
        except Exception as error:  # it fails the rows of this adapter, whatever it is, and no others
            self._fail((digest,), error)
            return
        with self._changed:
            self._sizes_bytes[digest] = size_bytes
        self._on_change()

    def _bring(self, key: Key, reserved_bytes: int) -> None:
        try:
            found: LoraWeights | Exception = self._made(key)
        except Exception as error:  # as in `_measure`
            found = error
        with self._changed:
            self._loading = None
            self._size_bytes -= reserved_bytes
            if isinstance(found, LoraWeights) and not self._closed:
                self._held[key] = found
                self._size_bytes += found.size_bytes
        if isinstance(found, Exception):
            self._fail((key,), found)
        else:
            self._on_change()

    def _made(self, key: Key) -> LoraWeights:
        if isinstance(key, str):
            return self._source.load(key)
        with self._changed:
            parts = [(self._held[digest], weight) for digest, weight in key]
        return fused(parts)

    def _fail(self, keys: Keys, error: Exception) -> None:
        digests = frozenset(digest for key in keys for digest in _digests(key))
        with self._changed:
            for digest in digests:
                self._sizes_bytes.pop(digest, None)
        self._on_failure(digests, error)
        with self._changed:
            self._wanted = [wanted for wanted in self._wanted if not digests.issubset(wanted)]
        self._on_change()


def _digests(key: Key) -> Iterable[str]:
    return (key,) if isinstance(key, str) else (digest for digest, _ in key)
