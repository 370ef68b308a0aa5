"""What holds in each namespace now: the log replayed, kept fresh, and written to."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from retrieveall.errors import ConflictError, RetrieveAllError, ServiceUnavailable, UnknownExampleError
from retrieveall.taught.example import TaughtExample
from retrieveall.taught.log import TaughtLog
from retrieveall.types import Sentence

MAX_EXAMPLES = 2_000
"""Examples of one language and namespace that lie over an index: more are better in the index."""

FRESH_S = 1.0
_KEPT = 256  # namespaces

log = logging.getLogger(__name__)

Status = Literal["added", "replaced", "known"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceState:
    """What the first `seq` calls of a namespace left behind.

    Attributes:
        last: What was said last of each example, by id; deletions too.
    """

    seq: int = 0
    last: Mapping[str, TaughtExample] = field(default_factory=dict)

    def followed_by(self, seq: int, rows: Iterable[TaughtExample]) -> NamespaceState:
        """Returns the state after further calls, up to number `seq`."""
        return NamespaceState(seq=seq, last={**self.last, **{row.id: row for row in rows}})

    def examples(self, language: str | None = None) -> list[TaughtExample]:
        """Returns the examples that hold, by id."""
        held = (row for row in self.last.values() if not row.deleted and language in (None, row.language))
        return sorted(held, key=lambda row: row.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """What became of one call.

    Attributes:
        seq: Number of the last call of the namespace, this one if it changed anything.
        statuses: By example id, in the order given.
    """

    seq: int
    statuses: Mapping[str, Status]


class TaughtBook:
    """The namespaces of a workspace, read when they are asked for. Safe to share between threads.

    Args:
        log: The files.
        fresh_s: A state is looked at again when it is older.
        clock: Seconds.
    """

    def __init__(
        self, log: TaughtLog, *, fresh_s: float = FRESH_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._fresh_s, self._clock = log, fresh_s, clock
        self._states: OrderedDict[str, tuple[float, NamespaceState]] = OrderedDict()
        self._lock = threading.Lock()

    def state(self, namespace: str, *, at_least: int = 0, now: bool = False) -> NamespaceState:
        """Returns what holds in a namespace, at most `fresh_s` old.

        Where the files cannot be read, what was read last goes on to hold: a broken file keeps nobody from an
        answer.

        Args:
            namespace: Whose.
            at_least: Number of a call that must be in it.
            now: Look at the files in any case, and raise where that fails.

        Raises:
            ServiceUnavailable: That call is not there yet.
            InputError: A file is broken, and `now`.
        """
        kept = None if now else self._kept(namespace, at_least)
        state = kept or (self._refreshed(namespace) if now else self._refreshed_or_last(namespace))
        if state.seq < at_least:
            raise ServiceUnavailable(
                f"Call {at_least} of the taught examples has not arrived here, {state.seq} have."
                " Try again after 1 seconds."
            )
        return state

    def teach(
        self,
        namespace: str,
        sentences: Sequence[Sentence],
        *,
        created_at: str,
        folded: Mapping[str, int] | None = None,
    ) -> Taught:
        """Writes examples, unless they are known; they are on the disk when this returns.

        Args:
            namespace: Whose.
            sentences: As `check_examples` returns them.
            created_at: ISO 8601 time.
            folded: For each language the call up to which the index holds the examples already.

        Raises:
            ConflictError: The namespace would hold too many examples of a language.
            ServiceUnavailable: Others wrote at the same time, again and again.
        """
        state = self.state(namespace, now=True)
        statuses = {sentence.id: _status(state, sentence) for sentence in sentences}
        new = [sentence for sentence in sentences if statuses[sentence.id] != "known"]
        if not new:
            return Taught(seq=state.seq, statuses=statuses)
        rows = [
            TaughtExample(
                id=sentence.id,
                language=sentence.language,
                seq=0,
                created_at=created_at,
                text=sentence.text,
                entities=sentence.entities,
            )
            for sentence in new
        ]
        _check_room(state, rows, folded or {})
        return Taught(seq=self._append(namespace, rows, state), statuses=statuses)

    def forget(self, namespace: str, ids: Sequence[str], *, created_at: str) -> int:
        """Deletes examples, those that are not deleted yet; returns the number of the namespace's last call.

        Raises:
            UnknownExampleError: There is no such example in the namespace.
            ServiceUnavailable: Others wrote at the same time, again and again.
        """
        state = self.state(namespace, now=True)
        known = {one: state.last.get(one) for one in ids}
        for one, found in known.items():
            if found is None:
                raise UnknownExampleError(
                    f"There is no taught example {one[:80]!r} here. List them to see their ids."
                )
        rows = [
            TaughtExample(id=row.id, language=row.language, seq=0, created_at=created_at, deleted=True)
            for row in known.values()
            if row is not None and not row.deleted
        ]
        return self._append(namespace, rows, state) if rows else state.seq

    def _append(self, namespace: str, rows: Sequence[TaughtExample], state: NamespaceState) -> int:
        seq = self._log.append(namespace, rows, after=state.seq)
        self._refreshed(namespace)
        return seq

    def _kept(self, namespace: str, at_least: int) -> NamespaceState | None:
        with self._lock:
            looked_s, state = self._states.get(namespace, (float("-inf"), NamespaceState()))
        fresh = self._clock() - looked_s <= self._fresh_s
        return state if fresh and state.seq >= at_least else None

    def _refreshed_or_last(self, namespace: str) -> NamespaceState:
        try:
            return self._refreshed(namespace)
        except (RetrieveAllError, OSError) as error:
            log.error("Taught examples of %r cannot be read, those read last hold: %s", namespace, error)
        with self._lock:
            _, state = self._states.get(namespace, (0.0, NamespaceState()))
            self._states[namespace] = (self._clock(), state)
        return state

    def _refreshed(self, namespace: str) -> NamespaceState:
        now_s = self._clock()
        with self._lock:
            _, before = self._states.get(namespace, (0.0, None))
        if before is None or not before.seq:
            state = NamespaceState().followed_by(*self._log.read_all(namespace))
        else:
            seq, rows = self._log.read_after(namespace, before.seq)
            state = before.followed_by(seq, rows) if rows else before
        with self._lock:
            held = self._states.get(namespace)
            if held is None or held[1].seq <= state.seq:
                self._states[namespace] = (now_s, state)
            self._states.move_to_end(namespace)
            while len(self._states) > _KEPT:
                self._states.popitem(last=False)
        return state


def _status(state: NamespaceState, sentence: Sentence) -> Status:
    known = state.last.get(sentence.id)
    if known is None or known.deleted:
        return "added"
    return "known" if (known.text, known.entities) == (sentence.text, sentence.entities) else "replaced"


def _check_room(state: NamespaceState, rows: Sequence[TaughtExample], folded: Mapping[str, int]) -> None:
    for language in {row.language for row in rows}:
        since = folded.get(language, 0)
        held = {row.id for row in state.examples(language) if row.seq > since}
        held |= {row.id for row in rows if row.language == language}
        if len(held) > MAX_EXAMPLES:
            raise ConflictError(
                f"The namespace would hold {len(held)} examples of {language!r}, it takes {MAX_EXAMPLES}."
                " Delete some, fold the shared ones into the index (`retrieveall index compact`), or import"
                " them as a corpus."
            )
