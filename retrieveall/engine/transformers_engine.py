"""Continuous batching over transformers' model code, with our batched LoRA layers.

A thread of its own decodes the rows under way, whatever their adapters; waiting rows of near lengths
join as soon as others have left enough room. Works with any Hugging Face causal LM whose linear
layers are `torch.nn.Linear` and whose memory is full or sliding attention alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.batch import LiveRow, RunningBatch
from retrieveall.engine.counting import EngineCounters
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.masks import AttentionMasks
from retrieveall.engine.protocol import Decoded, EngineStats, Row
from retrieveall.engine.waiting import Ticket, WaitingRows
from retrieveall.errors import ConfigError, EngineClosed, InputError
from retrieveall.lora.bank import AdapterBank
from retrieveall.lora.layers import AdapterStacks, LoraPlan, attach_lora
from retrieveall.lora.weights import LoraWeights, fused, load_lora
from retrieveall.models.base import BaseModel, open_base
from retrieveall.prompting.codec import PromptCodec

_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

Entries = tuple[tuple[LoraWeights, float], ...]

_FUSIONS_KEPT = 16
JOIN_ROOM = 0.25
"""Of max_batch_rows: rows join once so much room is free, because every joining costs a pass of its own."""


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
        adapter_capacity: Adapters held in memory.
    """

    base_model: str | Path
    dtype: str = "float32"
    device: str = "cpu"
    max_batch_rows: int = 32
    max_prefill_tokens: int = 8192
    max_waiting_rows: int = 4096
    threads: int | None = None
    adapter_capacity: int = 64

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype {self.dtype!r} was given; use one of {', '.join(_DTYPES)}.")
        for name in (
            "max_batch_rows",
            "max_prefill_tokens",
            "max_waiting_rows",
            "adapter_capacity",
            "threads",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give a number of at least 1.")


class TransformersEngine:
    """Decodes rows of many adapters in one batch.

    Args:
        config: Settings.
        resolve_adapter: From an adapter's digest to the folder with its PEFT files; raises what the
            rows of that adapter shall fail with. Called on the engine's thread.

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
        dtype = _DTYPES[config.dtype]
        load = partial(load_lora, shapes=shapes, dtype=dtype, device=self._device)
        self._bank = AdapterBank(resolve_adapter, load, config.adapter_capacity)
        self._running = RunningBatch(
            AllowedScorer(model),
            AttentionMasks(model.config, dtype),
            pad_id=base.pad_id,
            device=self._device,
            follow=self._follow,
        )
        self._compositions = _Compositions()
        self._stacks = AdapterStacks()
        self._followed: tuple[LiveRow, ...] = ()
        self._counters = EngineCounters()
        self._waiting = WaitingRows(config.max_waiting_rows, self._counters.failed)
        self._thread = threading.Thread(target=self._run, name="transformers-engine", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> Future[Decoded]:
        """Queues a row; see `Engine.submit`."""
        return self._waiting.put(row)

    def stats(self) -> EngineStats:
        """Returns the counters and the digests of the adapters held."""
        return self._counters.snapshot(rows_waiting=len(self._waiting), adapters=self._bank.digests)

    def close(self) -> None:
        """Stops after the next step; rows that wait or are half decoded fail with `EngineClosed`."""
        self._waiting.close()
        self._thread.join()

    def _run(self) -> None:
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        while True:
            tickets = self._fitting(self._waiting_rows())
            if self._waiting.closed:
                self._fail_all(
                    tickets,
                    EngineClosed(
                        "The engine was closed while the row was decoded. Send it to a running engine."
                    ),
                )
                return
            try:
                with torch.inference_mode():
                    self._advance(tickets)
            except Exception as error:  # the thread outlives any batch
                self._fail_all(tickets, error)

    def _waiting_rows(self) -> list[Ticket]:
        """Takes rows that may join now, several at once; see `JOIN_ROOM`."""
        running = len(self._running.rows)
        room = self.config.max_batch_rows - running
        if running and room < JOIN_ROOM * self.config.max_batch_rows:
            return []
        return self._waiting.take(room, self.config.max_prefill_tokens, wait=not running)

    def _advance(self, tickets: Sequence[Ticket]) -> None:
        """Lets rows join, then moves all rows on by one step."""
        rows = self._live_rows(tickets)
        if rows:
            self._counters.batch()
            self._running.join(rows)
            self._counters.forward_pass()
        self._finish_done()
        if self._running.rows:
            self._running.step()
            self._counters.forward_pass()
            self._finish_done()

    def _finish_done(self) -> None:
        now_s = time.monotonic()
        for row in self._running.rows:
            row.is_gone = row.is_gone or (row.is_live and row.ticket.is_gone(now_s))
        for row in self._running.leave():
            self._finish(row)

    def _fail_all(self, joining: Sequence[Ticket], error: Exception) -> None:
        """Fails the rows under way and those that were about to join."""
        for ticket in (*joining, *(row.ticket for row in self._running.clear())):
            self._fail(ticket, error)

    def _fitting(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Puts rows back whose adapters would not fit into memory together with the others'."""
        digests = {digest for row in self._running.rows for digest, _ in row.ticket.row.adapters}
        fitting: list[Ticket] = []
        others: list[Ticket] = []
        for ticket in tickets:
            own = {digest for digest, _ in ticket.row.adapters}
            if not digests or len(digests | own) <= self.config.adapter_capacity:
                digests |= own
                fitting.append(ticket)
            else:
                others.append(ticket)
        self._waiting.give_back(others)
        return fitting

    def _follow(self, rows: Sequence[LiveRow]) -> None:
        """Lets the LoRA layers act on the rows of the coming pass."""
        if tuple(rows) == self._followed:
            return
        self._followed = tuple(rows)
        plan = LoraPlan([row.lora for row in rows], self._device, self._stacks)
        self._switch.plan = None if plan.is_empty else plan

    def _live_rows(self, tickets: Sequence[Ticket]) -> list[LiveRow]:
        """Starts rows; those that are broken, or have nothing to choose, end here."""
        running = (row.ticket for row in self._running.rows)
        held = self._bank.hold(digest for t in (*running, *tickets) for digest, _ in t.row.adapters)
        live = []
        for ticket in sorted(tickets, key=_order):
            try:
                row = self._live_row(ticket, held)
            except Exception as error:  # this row's own fault
                self._fail(ticket, error)
                continue
            if row.is_live:
                live.append(row)
            else:
                self._finish(row)
        return live

    def _live_row(self, ticket: Ticket, held: dict[str, LoraWeights | Exception]) -> LiveRow:
        row = ticket.row
        for digest, _ in row.adapters:
            found = held[digest]
            if isinstance(found, Exception):
                raise found
        self._check(row)
        grammar = label_grammar(row.labels, tuple(map(self.codec.label, row.labels)))
        automaton = TagLineAutomaton(row.sentence, grammar, self.codec.end_id)
        lora = self._compositions.entries(row, held)
        return LiveRow(ticket, automaton, lora, max_positions=self._max_positions)

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


class _Compositions:
    """Turns a row's adapters into its entries of M (LoraRetriever: selection, mixture, fusion)."""

    def __init__(self) -> None:
        self._fused: dict[tuple[tuple[int, float], ...], tuple[Entries, Entries]] = {}

    def entries(self, row: Row, held: Mapping[str, LoraWeights | Exception]) -> Entries:
        parts = tuple(
            (weights, weight)
            for digest, weight in row.adapters
            if isinstance(weights := held[digest], LoraWeights)
        )
        if row.composition != "fusion" or not parts:
            return parts
        key = tuple((id(weights), weight) for weights, weight in parts)
        if key not in self._fused:
            if len(self._fused) >= _FUSIONS_KEPT:
                self._fused.clear()
            # the parts are kept with the sum, so that no other adapter can take over their ids
            self._fused[key] = parts, ((fused(parts), 1.0),)
        return self._fused[key][1]


def _order(ticket: Ticket) -> tuple[object, ...]:
    """Rows of one adapter stand together, so that its segment needs no gathering."""
    return (ticket.row.composition, ticket.row.adapters, len(ticket.row.prompt_ids))


def _open(config: EngineConfig) -> BaseModel:
    try:
        return open_base(str(config.base_model), dtype=_DTYPES[config.dtype], device=config.device)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The base model {str(config.base_model)!r} cannot be loaded: {error} Give a folder with a causal"
            " LM and its tokenizer, or a Hugging Face id."
        ) from error
