"""The first engine: transformers' model code, our batched LoRA layers, static batches.

A thread of its own takes the waiting rows nearest in length, decodes them together whatever their
adapters, and takes the next ones. Works with any Hugging Face causal LM whose linear layers are
`torch.nn.Linear` and whose memory is attention alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.batch import DecodingBatch, LiveRow, decode
from retrieveall.engine.counting import EngineCounters
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.protocol import Decoded, EngineStats, Row
from retrieveall.engine.waiting import Ticket, WaitingRows
from retrieveall.errors import ConfigError, EngineClosed, InputError
from retrieveall.lora.bank import AdapterBank
from retrieveall.lora.layers import LoraPlan, attach_lora
from retrieveall.lora.weights import LoraWeights, fused, load_lora
from retrieveall.models.base import BaseModel, open_base
from retrieveall.prompting.codec import PromptCodec

_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Settings of a `TransformersEngine`.

    Attributes:
        base_model: ``tiny``, a folder or a Hugging Face id.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        device: As torch spells it, such as ``cpu`` or ``cuda``.
        max_batch_rows: Rows decoded together.
        max_waiting_rows: Rows that may wait; more are refused.
        threads: Threads of torch; None leaves what the process set.
        adapter_capacity: Adapters held in memory.
    """

    base_model: str | Path
    dtype: str = "float32"
    device: str = "cpu"
    max_batch_rows: int = 32
    max_waiting_rows: int = 4096
    threads: int | None = None
    adapter_capacity: int = 64

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype {self.dtype!r} was given; use one of {', '.join(_DTYPES)}.")
        for name in ("max_batch_rows", "max_waiting_rows", "adapter_capacity", "threads"):
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
        model, self._pad_id = base.model, base.pad_id
        self.tokenizer: Any = base.tokenizer
        self.codec: PromptCodec = base.codec
        self._device = torch.device(config.device)
        self._max_positions: int | None = getattr(model.config, "max_position_embeddings", None)
        self._window_tokens: int | None = getattr(model.config, "sliding_window", None)
        self._switch, shapes = attach_lora(model, skip=model.get_output_embeddings())
        self._scorer = AllowedScorer(model)
        load = partial(load_lora, shapes=shapes, dtype=_DTYPES[config.dtype], device=self._device)
        self._bank = AdapterBank(resolve_adapter, load, config.adapter_capacity)
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
        while tickets := self._waiting.take(self.config.max_batch_rows):
            fitting = self._fitting(tickets)
            self._counters.batch()
            try:
                with torch.inference_mode():
                    self._decode(fitting)
            except Exception as error:  # the thread outlives any batch
                for ticket in fitting:
                    self._fail(ticket, error)
            self._switch.plan = None

    def _fitting(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Puts rows back whose adapters would not fit into memory together with the others'."""
        digests: set[str] = set()
        fitting: list[Ticket] = []
        others: list[Ticket] = []
        for ticket in tickets:
            own = {digest for digest, _ in ticket.row.adapters}
            if not fitting or len(digests | own) <= self.config.adapter_capacity:
                digests |= own
                fitting.append(ticket)
            else:
                others.append(ticket)
        self._waiting.give_back(others)
        return fitting

    def _decode(self, tickets: Sequence[Ticket]) -> None:
        held = self._bank.hold(digest for ticket in tickets for digest, _ in ticket.row.adapters)
        rows = self._live_rows(tickets, held)
        if not rows:
            return
        composer = _Composer(held)

        def follow(rows: Sequence[LiveRow]) -> None:
            plan = LoraPlan([composer.entries(row.ticket.row) for row in rows], self._device)
            self._switch.plan = None if plan.is_empty else plan

        follow(rows)
        decode(
            DecodingBatch(
                self._scorer,
                rows,
                pad_id=self._pad_id,
                device=self._device,
                window_tokens=self._window_tokens,
            ),
            now_s=time.monotonic,
            on_pass=self._after_pass,
            on_done=self._finish,
            on_pack=follow,
        )

    def _live_rows(
        self, tickets: Sequence[Ticket], held: dict[str, LoraWeights | Exception]
    ) -> list[LiveRow]:
        """Starts the rows of a batch; those that are broken, or have nothing to choose, end here."""
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
        return LiveRow(ticket, automaton, max_positions=self._max_positions)

    def _check(self, row: Row) -> None:
        if not row.prompt_ids:
            raise InputError("A row without a prompt was given. Build one with `build_prompt`.")
        if row.composition == "selection" and len(row.adapters) > 1:
            raise InputError(
                f"{len(row.adapters)} adapters were given with composition 'selection', which takes one."
                " Use 'mixture' or 'fusion', or give the best adapter alone."
            )

    def _after_pass(self) -> None:
        self._counters.forward_pass()
        if self._waiting.closed:
            raise EngineClosed(
                "The engine was closed while the row was decoded. Send it to a running engine."
            )

    def _finish(self, row: LiveRow) -> None:
        if row.is_gone:
            self._counters.failed()
            return
        decoded = row.decoded()
        self._counters.done(decoded)
        row.ticket.succeed(decoded)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not ticket.future.done():
            self._counters.failed()
            ticket.fail(error)


class _Composer:
    """Turns a row's adapters into the entries of M (LoraRetriever: selection, mixture, fusion)."""

    def __init__(self, held: dict[str, LoraWeights | Exception]) -> None:
        self._held = held
        self._fused: dict[tuple[tuple[str, float], ...], LoraWeights] = {}

    def entries(self, row: Row) -> list[tuple[LoraWeights, float]]:
        parts = [
            (weights, weight)
            for digest, weight in row.adapters
            if isinstance(weights := self._held[digest], LoraWeights)
        ]
        if row.composition != "fusion" or not parts:
            return parts
        if row.adapters not in self._fused:
            self._fused[row.adapters] = fused(parts)
        return [(self._fused[row.adapters], 1.0)]


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
