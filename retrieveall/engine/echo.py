"""An engine without a model, for tests of everything around engines.

Every longest run of capitalised units is an entity of the row's first label with probability 1. The
answer depends on the row alone; each line costs the steps that a model would need without drafts.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.counting import EngineCounters
from retrieveall.engine.protocol import Decoded, EngineStats, Row
from retrieveall.engine.waiting import Ticket, WaitingRows
from retrieveall.prompting.codec import PromptCodec


class EchoEngine:
    """Tags runs of capitalised units.

    Args:
        codec: The codec that rows are encoded with.
        max_batch_rows: Rows that share the steps of one batch.
        max_waiting_rows: Rows that may wait.
        sleep_s_per_step: Time that one step of a batch takes; 0 answers at once.
    """

    def __init__(
        self,
        codec: PromptCodec,
        *,
        max_batch_rows: int = 32,
        max_waiting_rows: int = 4096,
        sleep_s_per_step: float = 0.0,
    ) -> None:
        self.codec = codec
        self._max_batch_rows = max_batch_rows
        self._sleep_s_per_step = sleep_s_per_step
        self._counters = EngineCounters()
        self._waiting = WaitingRows(max_waiting_rows, self._counters.failed)
        self._thread = threading.Thread(target=self._run, name="echo-engine", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> Future[Decoded]:
        """Queues a row; see `Engine.submit`."""
        return self._waiting.put(row)

    def stats(self) -> EngineStats:
        """Returns the counters; an echo engine holds no adapters."""
        return self._counters.snapshot(rows_waiting=len(self._waiting))

    def close(self) -> None:
        """Stops the engine; waiting rows fail with `EngineClosed`."""
        self._waiting.close()
        self._thread.join()

    def _run(self) -> None:
        while tickets := self._waiting.take(self._max_batch_rows):
            self._counters.batch()
            lines = [(ticket, self._line(ticket)) for ticket in tickets]
            for step in range(max(len(line) for _, line in lines)):
                self._counters.forward_passes(1)
                if self._sleep_s_per_step:
                    time.sleep(self._sleep_s_per_step)
                for ticket, line in lines:
                    if len(line) == step + 1:
                        self._answer(ticket, line)

    def _line(self, ticket: Ticket) -> list[int]:
        row = ticket.row
        marker = self.codec.label(row.labels[0]) if row.labels else ()
        line: list[int] = []
        in_mention = False
        for unit_ids in row.sentence.unit_ids:
            is_name = self.codec.spelling(unit_ids).strip()[:1].isupper()
            if in_mention and not is_name:
                line += marker
            if is_name:
                line += unit_ids
            in_mention = is_name
        return [*line, *(marker if in_mention else ()), self.codec.end_id]

    def _answer(self, ticket: Ticket, line: list[int]) -> None:
        if ticket.is_gone(time.monotonic()):
            self._counters.failed()
            return
        try:
            decoded = self._decoded(ticket.row, line)
        except Exception as error:
            self._counters.failed()
            ticket.fail(error)
            return
        self._counters.done(decoded)
        ticket.succeed(decoded)

    def _decoded(self, row: Row, line: list[int]) -> Decoded:
        grammar = label_grammar(row.labels, tuple(map(self.codec.label, row.labels)))
        automaton = TagLineAutomaton(row.sentence, grammar, self.codec.end_id)
        for token in line:
            automaton.advance(token)
        return Decoded(
            spans=automaton.spans(),
            prompt_tokens=len(row.prompt_ids),
            new_tokens=len(line),
            forward_passes=len(line),
        )
