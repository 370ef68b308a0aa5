"""Rows that wait for their batch: bounded, thread-safe, and each with the future its caller holds."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice, zip_longest
from typing import Protocol

from retrieveall.engine.protocol import Decoded, Row
from retrieveall.errors import DeadlineExceeded, EngineClosed, Overloaded
from retrieveall.lora.bank import Standing
from retrieveall.types import Composition

Clock = Callable[[], float]
Group = tuple[tuple[tuple[str, float], ...], Composition]

_LINGER_S = 0.001  # an idle engine starts once no further row came for this long …
_MAX_LINGERS = 10  # … or after this many times it
_CANDIDATES = 8  # times the rows to take: so many are looked at for rows of near lengths


class Ticket:
    """One row on its way through an engine.

    The future is never marked as running, so its caller may cancel it until the answer is there.

    Args:
        row: What to decode.
        most_tokens: Prompt and tag line have no more tokens together.
    """

    def __init__(self, row: Row, most_tokens: int) -> None:
        self.row = row
        self.most_tokens = most_tokens
        self.future: Future[Decoded] = Future()

    def is_gone(self, now_s: float) -> bool:
        """Says whether nobody waits for the row any more; fails it where its deadline passed."""
        if self.future.cancelled():
            return True
        deadline_s = self.row.deadline_s
        if deadline_s is None or now_s < deadline_s:
            return False
        late_s = now_s - deadline_s
        self.fail(
            DeadlineExceeded(
                f"The row's deadline passed {late_s:.3f} s ago, before it was decoded."
                " Give more time, send fewer texts at once, or add replicas."
            )
        )
        return True

    def succeed(self, decoded: Decoded) -> None:
        """Hands the answer to whoever waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(decoded)

    def fail(self, error: BaseException) -> None:
        """Hands an error to whoever waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Gate(Protocol):
    """Says who may join; asked with the queue locked."""

    def standing(self, rows: Sequence[Row]) -> Sequence[Standing]:
        """Says how the adapters of rows stand that wait, one row for each group, in turn."""
        ...

    def fits(self, rows: int, most_tokens: int) -> bool:
        """Says whether there is memory for so many more rows of at most so many tokens each."""
        ...


class OpenGate:
    """Lets everybody join."""

    def standing(self, rows: Sequence[Row]) -> Sequence[Standing]:
        """All have what they need."""
        return [Standing.HELD] * len(rows)

    def fits(self, rows: int, most_tokens: int) -> bool:
        """There is memory for all."""
        return True


class WaitingRows:
    """The queue in front of an engine.

    Args:
        capacity: Most rows that may wait.
        on_gone: Called once per row that failed, was cancelled or came too late while it waited.
        clock: Seconds, as `Row.deadline_s` counts them.
    """

    def __init__(self, capacity: int, on_gone: Callable[[], None], clock: Clock = time.monotonic) -> None:
        self._capacity, self._on_gone, self._clock = capacity, on_gone, clock
        self._tickets: list[Ticket] = []
        self._changed = threading.Condition()
        self._closed = False
        self._settled = False  # nobody may join, and nothing has changed since that was found
        self._has_cancelled = False
        self._due_s = math.inf  # no deadline is earlier
        self._taken_per_s = float(capacity)
        self._last_take_s: float | None = None
        self._takes = 0
        self._led: dict[Group, int] = {}  # the take that a row of these adapters led last

    def __len__(self) -> int:
        return len(self._tickets)

    def put(self, row: Row, most_tokens: int = 0) -> Future[Decoded]:
        """Lets a row wait.

        Args:
            row: What to decode.
            most_tokens: Prompt and tag line have no more tokens together.

        Raises:
            Overloaded: The queue is full.
            EngineClosed: The queue was closed.
        """
        with self._changed:
            if self._closed:
                raise EngineClosed("The engine was closed. Start a new one.")
            if len(self._tickets) >= self._capacity:
                self._drop_gone()
            if len(self._tickets) >= self._capacity:
                raise Overloaded(self._full_message())
            ticket = Ticket(row, most_tokens)
            ticket.future.add_done_callback(self._note_cancelled)
            self._tickets.append(ticket)
            self._note_new([ticket])
            return ticket.future

    def _full_message(self) -> str:
        wait_s = max(1, math.ceil(len(self._tickets) / max(self._taken_per_s, 1e-3)))
        return (
            f"{len(self._tickets)} rows are waiting, as many as this engine lets wait."
            f" Try again after {wait_s} seconds, or raise `max_waiting_rows`."
        )

    def take(
        self, max_rows: int, max_tokens: int | None = None, *, gate: Gate | None = None, wait: bool = True
    ) -> list[Ticket]:
        """Takes rows that somebody waits for, adapters in turn, and among those in turn of near lengths.

        The row whose adapter's turn it is always comes along, so none waits for ever and no language
        keeps another from its share. Where there is no room yet for that row, nobody joins until there
        is; while its adapter is being loaded, others go first.

        Args:
            max_rows: Most rows, at least one.
            max_tokens: Most tokens of all their prompts, padded to the longest, None for any number; a
                single row may be longer.
            gate: Says who may join; None lets everybody.
            wait: Whether to wait for rows where there are none that may join.

        Returns:
            Rows; nothing where there are none, or once the queue is closed.
        """
        with self._changed:
            while True:
                if wait:
                    self._changed.wait_for(lambda: self._tickets or self._closed)
                    self._linger(max_rows)
                if self._closed:
                    return []
                self.sweep()
                if self._tickets and not self._settled:
                    if taken := self._nearest(max_rows, max_tokens, gate or OpenGate()):
                        return taken
                    self._settled = True
                if not wait:
                    return []
                if self._tickets:
                    self._changed.wait(self._until_due_s())

    def sweep(self) -> None:
        """Drops the rows that were cancelled or whose deadline passed; quick where there are none."""
        with self._changed:
            if self._has_cancelled or self._clock() >= self._due_s:
                self._drop_gone()

    def look_again(self) -> None:
        """Lets `take` ask the gate again: its answers may have changed."""
        with self._changed:
            self._settled = False
            self._changed.notify()

    def fail(self, digests: frozenset[str], error: Exception) -> None:
        """Fails the rows that wait for all of these adapters."""
        failed: list[Ticket] = []
        with self._changed:
            left: list[Ticket] = []
            for ticket in self._tickets:
                needs_all = digests.issubset(digest for digest, _ in ticket.row.adapters)
                (failed if needs_all else left).append(ticket)
            self._tickets = left
            self._settled = False
        for ticket in failed:
            self._on_gone()
            ticket.fail(error)

    def give_back(self, tickets: list[Ticket]) -> None:
        """Puts tickets that did not fit into a batch back to the front of the queue."""
        with self._changed:
            if not self._closed:
                self._tickets[:0] = tickets
                self._note_new(tickets)
                return
        for ticket in tickets:
            ticket.fail(_closed_while_waiting())

    def close(self) -> None:
        """Fails every waiting row with `EngineClosed` and lets nobody in any more."""
        with self._changed:
            self._closed = True
            left, self._tickets = self._tickets, []
            self._changed.notify_all()
        for ticket in left:
            ticket.fail(_closed_while_waiting())

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def _note_new(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if ticket.row.deadline_s is not None:
                self._due_s = min(self._due_s, ticket.row.deadline_s)
        self._settled = False
        self._changed.notify()

    def _note_cancelled(self, future: Future[Decoded]) -> None:
        if future.cancelled():
            with self._changed:
                self._has_cancelled = True
                self._changed.notify()

    def _until_due_s(self) -> float | None:
        return None if self._due_s == math.inf else max(0.0, self._due_s - self._clock())

    def _drop_gone(self) -> None:
        now_s = self._clock()
        before = len(self._tickets)
        self._tickets = [ticket for ticket in self._tickets if not ticket.is_gone(now_s)]
        self._has_cancelled = False
        deadlines_s = [t.row.deadline_s for t in self._tickets if t.row.deadline_s is not None]
        self._due_s = min(deadlines_s, default=math.inf)
        for _ in range(before - len(self._tickets)):
            self._settled = False
            self._on_gone()

    def _linger(self, max_rows: int) -> None:
        """Gives a caller that submits rows one by one the chance to fill the batch."""
        for _ in range(_MAX_LINGERS):
            before = len(self._tickets)
            if before >= max_rows or self._closed:
                return
            self._changed.wait(_LINGER_S)
            if len(self._tickets) == before:
                return

    def _nearest(self, max_rows: int, max_tokens: int | None, gate: Gate) -> list[Ticket]:
        candidates = self._in_turn(_CANDIDATES * max_rows, gate)
        if not candidates or not gate.fits(1, candidates[0].most_tokens):
            return []
        first, others = candidates[0], candidates[1:]
        length = _length(first)
        others.sort(key=lambda ticket: abs(_length(ticket) - length))
        taken = [first]
        longest, most = length, first.most_tokens
        for ticket in others[: max_rows - 1]:
            longest, most = max(longest, _length(ticket)), max(most, ticket.most_tokens)
            if max_tokens is not None and longest * (len(taken) + 1) > max_tokens:
                break
            if not gate.fits(len(taken) + 1, most):
                break
            taken.append(ticket)
        self._takes += 1
        self._led[_group(first)] = self._takes
        chosen = set(map(id, taken))
        self._tickets = [ticket for ticket in self._tickets if id(ticket) not in chosen]
        self._note_rate(len(taken))
        return taken

    def _in_turn(self, most: int, gate: Gate) -> list[Ticket]:
        """The oldest row of every adapter, then the second oldest …; whoever led a take last comes last.

        Only rows whose adapters are there; none where those whose turn it is have no room to get there.
        """
        queues: dict[Group, list[Ticket]] = {}
        for ticket in self._tickets:
            queues.setdefault(_group(ticket), []).append(ticket)
        # whoever comes new stands behind those who have waited for longer than one take
        self._led = {group: self._led.get(group, self._takes - 1) for group in queues}
        turns = sorted(queues, key=lambda group: self._led[group])
        standings = gate.standing([queues[group][0].row for group in turns])
        if standings[0] is Standing.NO_ROOM:
            return []
        held = [queues[g] for g, standing in zip(turns, standings, strict=True) if standing is Standing.HELD]
        rounds = zip_longest(*held)
        return list(islice((ticket for turn in rounds for ticket in turn if ticket is not None), most))

    def _note_rate(self, rows: int) -> None:
        now_s = self._clock()
        if self._last_take_s is not None and now_s > self._last_take_s:
            self._taken_per_s = rows / (now_s - self._last_take_s)
        self._last_take_s = now_s


def _closed_while_waiting() -> EngineClosed:
    return EngineClosed("The engine was closed while the row was waiting. Send it to a running engine.")


def _group(ticket: Ticket) -> Group:
    return ticket.row.adapters, ticket.row.composition


def _length(ticket: Ticket) -> int:
    return len(ticket.row.prompt_ids)
