"""Continuous batching over transformers' model code, with our batched LoRA layers.

A thread of its own decodes the rows under way, whatever their adapters; waiting rows of near lengths
join as soon as others have left enough room. Works with any Hugging Face causal LM whose linear
layers are `torch.nn.Linear` and whose memory is full or sliding attention alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar, longest_line
from retrieveall.engine.batch import LiveRow, RunningBatch
from retrieveall.engine.counting import EngineCounters
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.kv_cache import KvLimit
from retrieveall.engine.masks import AttentionMasks
from retrieveall.engine.memory import memory_budget
from retrieveall.engine.protocol import Decoded, EngineStats, MemoryUse, Row
from retrieveall.engine.waiting import Ticket, WaitingRows
from retrieveall.errors import ConfigError, EngineClosed, InputError, RowTooLargeError
from retrieveall.lora.bank import AdapterBank, Keys, Standing, adapter_keys
from retrieveall.lora.layers import AdapterStacks, LoraPlan, attach_lora
from retrieveall.lora.weights import LoraFiles
from retrieveall.models.base import BaseModel, open_base
from retrieveall.models.dtypes import DTYPES, check_dtype
from retrieveall.prompting.codec import PromptCodec

JOIN_ROOM = 0.25
"""Of the rows that may be under way: others join once so much room is free, as every joining costs a pass."""

_JOINS_PER_DOUBLING = 32  # after a batch was halved


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Settings of a `TransformersEngine`.

    Attributes:
        base_model: ``tiny``, a folder or a Hugging Face id.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        device: As torch spells it, such as ``cpu`` or ``cuda``.
        max_batch_rows: Rows decoded together.
        max_prefill_tokens: Tokens of the prompts that join in one pass, padding counted.
        max_waiting_rows: Rows that may wait; more are refused.
        threads: Threads of torch; None leaves what the process set.
        memory_share: Part of the memory that is free once the base is loaded, of the GPU or of machine
            and cgroup, that keys and values, adapters and their stacks may take.
        memory_bytes: So many bytes instead.
        adapter_bytes: Of these, for adapters, and as many for their stacks; None for a fifth.
    """

    base_model: str | Path
    dtype: str = "float32"
    device: str = "cpu"
    max_batch_rows: int = 32
    max_prefill_tokens: int = 8192
    max_waiting_rows: int = 4096
    threads: int | None = None
    memory_share: float = 0.5
    memory_bytes: int | None = None
    adapter_bytes: int | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        for name in (
            "max_batch_rows",
            "max_prefill_tokens",
            "max_waiting_rows",
            "memory_bytes",
            "adapter_bytes",
            "threads",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give a number of at least 1.")
        if not 0 < self.memory_share <= 1:
            raise ConfigError(f"memory_share is {self.memory_share}; give a number above 0, at most 1.")


@dataclass(frozen=True, slots=True)
class _Room:
    """What the rows under way leave for others; see `Gate`."""

    bank: AdapterBank
    limit: KvLimit
    rows: int
    most_tokens: int

    def standing(self, rows: Sequence[Row]) -> list[Standing]:
        return self.bank.plan([_keys(row) for row in rows])

    def fits(self, rows: int, most_tokens: int) -> bool:
        return self.limit.fits(self.rows + rows, max(self.most_tokens, most_tokens))


class TransformersEngine:
    """Decodes rows of many adapters in one batch.

    Args:
        config: Settings.
        resolve_adapter: From an adapter's digest to the folder with its PEFT files; raises what the
            rows of that adapter shall fail with. Called on a thread of its own, beside decoding.

    Attributes:
        tokenizer: The base's tokenizer.
        codec: Encodes what rows are made of.

    Raises:
        NotFoundError: There is no such base.
        ConfigError: The base cannot be loaded.
    """

    def __init__(self, config: EngineConfig, resolve_adapter: Callable[[str], Path]) -> None:
        self.config = config
        base = _open(config)
        model = base.model
        self.tokenizer: Any = base.tokenizer
        self.codec: PromptCodec = base.codec
        self._device = torch.device(config.device)
        self._max_positions: int | None = getattr(model.config, "max_position_embeddings", None)
        self._switch, shapes = attach_lora(model, skip=model.get_output_embeddings())
        dtype = DTYPES[config.dtype]
        self._budget = memory_budget(
            self._device,
            share=config.memory_share,
            total_bytes=config.memory_bytes,
            adapter_bytes=config.adapter_bytes,
        )
        self._running = RunningBatch(
            AllowedScorer(model),
            AttentionMasks(model.config, dtype),
            pad_id=base.pad_id,
            device=self._device,
            kv_bytes=self._budget.kv_bytes,
            prompt_tokens=config.max_prefill_tokens,
            follow=self._follow,
        )
        self._stacks = AdapterStacks(self._budget.stack_bytes)
        self._followed: tuple[LiveRow, ...] = ()
        self._most_rows, self._joins = config.max_batch_rows, 0
        self._counters = EngineCounters()
        self._waiting = WaitingRows(config.max_waiting_rows, self._counters.failed)
        self._bank = AdapterBank(
            LoraFiles(resolve=resolve_adapter, shapes=shapes, dtype=dtype, device=self._device),
            self._budget.adapter_bytes,
            on_failure=self._waiting.fail,
            on_change=self._waiting.look_again,
        )
        self._thread = threading.Thread(target=self._run, name="transformers-engine", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> Future[Decoded]:
        """Queues a row; see `Engine.submit`."""
        line_tokens = longest_line(row.sentence, [self.codec.label(label) for label in row.labels])
        tokens = len(row.prompt_ids) + line_tokens
        if self._max_positions is not None:
            tokens = min(tokens, self._max_positions)
        limit = self._running.limit
        if limit.fits(1, tokens):
            return self._waiting.put(row, tokens)
        refused = Ticket(row, tokens)
        needed_bytes = limit.needed_bytes(1, tokens)
        self._fail(
            refused,
            RowTooLargeError(
                f"A row of {len(row.prompt_ids)} prompt tokens and a line of up to {line_tokens} needs"
                f" {needed_bytes:,} bytes of keys and values, the engine has {limit.limit_bytes:,}."
                " Lower the prompt budget, or raise `memory_share` or `memory_bytes`."
            ),
        )
        return refused.future

    def stats(self) -> EngineStats:
        """Returns the counters, the digests of the adapters held, and bytes."""
        memory = MemoryUse(
            budget_bytes=self._budget.total_bytes,
            kv_bytes=self._running.kv_bytes,
            adapter_bytes=self._bank.size_bytes,
            stack_bytes=self._stacks.size_bytes,
        )
        return self._counters.snapshot(
            rows_waiting=len(self._waiting), adapters=self._bank.digests, memory=memory
        )

    def close(self) -> None:
        """Stops after the next step; rows that wait or are half decoded fail with `EngineClosed`."""
        self._waiting.close()
        self._bank.close()
        self._thread.join()

    def _run(self) -> None:
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        while True:
            joining = self._live_rows(self._waiting_rows())
            if self._waiting.closed:
                self._fail_all(
                    joining,
                    EngineClosed(
                        "The engine was closed while the row was decoded. Send it to a running engine."
                    ),
                )
                return
            full: str | None = None
            try:
                with torch.inference_mode():
                    self._advance(joining)
            except torch.OutOfMemoryError as error:
                full = str(error)  # the error itself holds on to what the pass took
            except Exception as error:  # the thread outlives any batch
                self._fail_all(joining, error)
            if full is not None:
                self._split(joining, full)

    def _waiting_rows(self) -> list[Ticket]:
        """Takes rows that may join now, several at once; see `JOIN_ROOM`."""
        self._waiting.sweep()
        running = len(self._running.rows)
        free = self._most_rows - running
        if running and free < JOIN_ROOM * self._most_rows:
            return []
        room = _Room(self._bank, self._running.limit, running, self._running.most_tokens)
        return self._waiting.take(free, self.config.max_prefill_tokens, gate=room, wait=not running)

    def _advance(self, joining: Sequence[LiveRow]) -> None:
        """Lets rows join, then moves all rows on by one step."""
        if joining:
            self._counters.batch()
            self._counters.forward_passes(self._running.join(joining))
            self._note_join()
        self._finish_done()
        if self._running.rows:
            self._running.step()
            self._counters.forward_passes(1)
            self._finish_done()

    def _finish_done(self) -> None:
        now_s = time.monotonic()
        for row in self._running.rows:
            row.is_gone = row.is_gone or (row.is_live and row.ticket.is_gone(now_s))
        if left := self._running.leave():
            self._let_go(left)
            for row in left:
                self._finish(row)

    def _let_go(self, rows: Sequence[LiveRow]) -> None:
        """Gives up the adapters of rows that are no more under way."""
        self._followed, self._switch.plan = (), None
        for row in rows:
            row.lora = ()
        self._bank.release(_keys(row.ticket.row) for row in rows)
        self._waiting.look_again()

    def _clear(self, joining: Sequence[LiveRow]) -> list[Ticket]:
        """Gives up all that is under way or about to be, and returns the tickets."""
        self._followed, self._switch.plan = (), None
        rows = dict.fromkeys([*self._running.clear(), *joining])
        for row in rows:
            row.lora = ()
        self._bank.release_all()
        return [row.ticket for row in rows if not row.ticket.future.done()]

    def _fail_all(self, joining: Sequence[LiveRow], error: Exception) -> None:
        """Fails the rows under way and those that were about to join."""
        for ticket in self._clear(joining):
            self._fail(ticket, error)

    def _split(self, joining: Sequence[LiveRow], full: str) -> None:
        """Lets all rows start again, half as many together; a row that was alone fails.

        Nothing of a pass that broke off is relied on, so all begin anew; greedy rows say the same again.
        """
        tickets = self._clear(joining)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._most_rows, self._joins = max(1, len(tickets) // 2), 0
        self._counters.split()
        if len(tickets) > 1:
            self._waiting.give_back(tickets)
            return
        for ticket in tickets:
            tokens = len(ticket.row.prompt_ids)
            message = (
                f"{self._device} has no memory left for a row of {tokens} prompt tokens alone ({full})."
                " Lower the prompt budget, or `memory_share`, or use a larger device."
            )
            self._fail(ticket, RowTooLargeError(message))

    def _note_join(self) -> None:
        """Lets batches grow again, slowly, after one was halved."""
        self._joins += 1
        if self._joins % _JOINS_PER_DOUBLING == 0:
            self._most_rows = min(2 * self._most_rows, self.config.max_batch_rows)

    def _follow(self, rows: Sequence[LiveRow]) -> None:
        """Lets the LoRA layers act on the rows of the coming pass."""
        if tuple(rows) == self._followed:
            return
        self._followed = tuple(rows)
        plan = LoraPlan([row.lora for row in rows], self._device, self._stacks)
        self._switch.plan = None if plan.is_empty else plan

    def _live_rows(self, tickets: Sequence[Ticket]) -> list[LiveRow]:
        """Starts rows; those that are broken, or have nothing to choose, end here."""
        live: list[LiveRow] = []
        for ticket in sorted(tickets, key=_order):
            try:
                row = self._live_row(ticket)
            except Exception as error:  # this row's own fault
                self._fail(ticket, error)
                continue
            if not row.is_live:
                self._finish(row)
            elif self._board(row):
                live.append(row)
            else:
                self._waiting.give_back([ticket])
        return live

    def _live_row(self, ticket: Ticket) -> LiveRow:
        row = ticket.row
        self._check(row)
        grammar = label_grammar(row.labels, tuple(map(self.codec.label, row.labels)))
        automaton = TagLineAutomaton(row.sentence, grammar, self.codec.end_id)
        return LiveRow(ticket, automaton, max_positions=self._max_positions)

    def _board(self, live: LiveRow) -> bool:
        """Takes hold of a row's adapters; False where one went since the row was taken from the queue."""
        row = live.ticket.row
        held = self._bank.acquire(_keys(row))
        if held is None:
            return False
        wanted = ((row.adapters, 1.0),) if row.composition == "fusion" and row.adapters else row.adapters
        live.lora = tuple((held[key], weight) for key, weight in wanted)
        return True

    def _check(self, row: Row) -> None:
        if not row.prompt_ids:
            raise InputError("A row without a prompt was given. Build one with `build_prompt`.")
        if row.composition == "selection" and len(row.adapters) > 1:
            raise InputError(
                f"{len(row.adapters)} adapters were given with composition 'selection', which takes one."
                " Use 'mixture' or 'fusion', or give the best adapter alone."
            )

    def _finish(self, row: LiveRow) -> None:
        if row.is_gone:
            self._counters.failed()
            return
        decoded = row.decoded()
        self._counters.done(decoded)
        self._counters.drafts(row.drafted_tokens, row.accepted_tokens)
        row.ticket.succeed(decoded)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not ticket.future.done():
            self._counters.failed()
            ticket.fail(error)


def _keys(row: Row) -> Keys:
    return adapter_keys(row.adapters, row.composition)


def _order(ticket: Ticket) -> tuple[object, ...]:
    """Rows of one adapter stand together, so that its segment needs no gathering."""
    return (ticket.row.composition, ticket.row.adapters, len(ticket.row.prompt_ids))


def _open(config: EngineConfig) -> BaseModel:
    try:
        return open_base(str(config.base_model), dtype=DTYPES[config.dtype], device=config.device)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The base model {str(config.base_model)!r} cannot be loaded: {error} Give a folder with a causal"
            " LM and its tokenizer, or a Hugging Face id."
        ) from error
