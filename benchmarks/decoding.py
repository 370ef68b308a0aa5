"""The engine's running batch, driven here step by step, so that what is compared differs in one thing alone.

A `Decoder` takes rows from the engine's queue into the engine's `RunningBatch` by the engine's rule; only
the thread and the futures are missing. So a merged model, batched adapters and another LoRA operation run
through the very same code, and a row's line may be something else than the grammar of tags:

- `TagLine`: the engine's grammar, forced tokens and drafts and all.
- `PlainLine`: the same grammar one token at a time.
- `FreeLine`: so many tokens, each the most probable of the whole vocabulary, as `generate` decodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton as TagLine
from retrieveall.engine.batch import LiveRow, RunningBatch
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.masks import AttentionMasks
from retrieveall.engine.protocol import Row
from retrieveall.engine.transformers_engine import JOIN_ROOM
from retrieveall.engine.waiting import Ticket, WaitingRows
from retrieveall.lora.layers import AdapterStacks, LoraPlan, LoraSwitch
from retrieveall.lora.weights import LoraWeights

_MAX_PREFILL_TOKENS = 8192  # as the engine's default
_KV_BYTES = 1 << 32
_LONGEST_LINE = 512  # tokens; what is not used of the cache costs nothing
_SOME_IDS = (0, 1)  # never looked at: what is free allows all


class PlainLine(TagLine):
    """A tag line whose every token costs a pass of its own."""

    def forced(self) -> list[int]:
        """Reads nothing."""
        return []

    def draft(self, guess: Sequence[Any]) -> list[int]:
        """Guesses nothing."""
        return []


class FreeLine:
    """A line of a fixed number of tokens, whatever they are."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.tokens: list[int] = []

    @property
    def finished(self) -> bool:
        """True once the line is full."""
        return len(self.tokens) >= self._length

    @property
    def steps(self) -> int:
        """Tokens so far."""
        return len(self.tokens)

    def allowed(self) -> tuple[int, ...]:
        """Returns more than one token, so that nothing is forced."""
        return _SOME_IDS

    def advance(self, token: int, logprob: float = 0.0) -> None:
        """Reads one token."""
        self.tokens.append(token)

    def forced(self) -> list[int]:
        """Reads nothing."""
        return []

    def draft(self, guess: Sequence[Any]) -> list[int]:
        """Guesses nothing."""
        return []

    def copy(self) -> FreeLine:
        """Returns a line that goes its own way from here."""
        other = FreeLine(self._length)
        other.tokens = list(self.tokens)
        return other

    def spans(self) -> tuple[()]:
        """Returns nothing: the tokens are no tags."""
        return ()


class VocabularyScorer(AllowedScorer):
    """Chooses among all tokens of the vocabulary, whatever is asked for."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._head = model.get_output_embeddings() if self.skips_vocabulary else torch.nn.Identity()

    def choose(self, states: torch.Tensor, allowed: Sequence[Sequence[int]]) -> tuple[list[int], list[float]]:
        """Returns the most probable token of each row; nobody looks at the probabilities."""
        tokens: list[int] = self._head(states).argmax(dim=-1).tolist()
        return tokens, [0.0] * len(tokens)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row to decode: its line, made anew for every run, and the adapters that act on it."""

    row: Row
    line: Callable[[], Any]
    lora: tuple[tuple[LoraWeights, float], ...] = ()


@dataclass(kw_only=True)
class Decoded:
    """What one run gave: the lines in the order of the jobs, passes, and where the time went."""

    lines: list[Any]
    row_passes: int
    drafted_tokens: int
    accepted_tokens: int
    joining_s: float = 0.0
    stepping_s: float = 0.0


class Decoder:
    """Decodes jobs with one model.

    Args:
        model: A causal LM.
        switch: Of its LoRA layers, None where it has none.
        scorer: How tokens are chosen.
        max_rows: Rows decoded together.
        join_room: Share of `max_rows` that must be free before rows join; 1 waits for all to have left.
        plan: Makes the running batch's LoRA operation, as `LoraPlan` does.
    """

    def __init__(
        self,
        model: Any,
        switch: LoraSwitch | None = None,
        *,
        scorer: type[AllowedScorer] = VocabularyScorer,
        max_rows: int = 16,
        join_room: float = JOIN_ROOM,
        plan: Callable[..., Any] = LoraPlan,
    ) -> None:
        self._switch, self._plan = switch, plan
        self._max_rows, self._join_room = max_rows, join_room
        self._stacks = AdapterStacks()
        self._followed: tuple[LiveRow, ...] = ()
        self._device = model.device
        self._batch = RunningBatch(
            scorer(model),
            AttentionMasks(model.config, model.dtype),
            pad_id=0,
            device=self._device,
            kv_bytes=_KV_BYTES,
            prompt_tokens=_MAX_PREFILL_TOKENS,
            follow=self._follow,
        )

    @torch.inference_mode()
    def decode(self, jobs: Sequence[Job]) -> Decoded:
        """Decodes all jobs."""
        waiting = WaitingRows(len(jobs), lambda: None)
        numbers = {id(job.row): number for number, job in enumerate(jobs)}
        for job in jobs:
            waiting.put(job.row, len(job.row.prompt_ids) + _LONGEST_LINE)
        done: list[Any] = [None] * len(jobs)
        seconds = [0.0, 0.0]
        while len(waiting) or self._batch.rows:
            began = time.perf_counter()
            joining = self._joining(waiting)
            if joining:
                self._batch.join([self._live(ticket, jobs[numbers[id(ticket.row)]]) for ticket in joining])
                self._leave(numbers, done)
            joined = time.perf_counter()
            if self._batch.rows:
                self._batch.step()
                self._leave(numbers, done)
            seconds[0] += joined - began
            seconds[1] += time.perf_counter() - joined
        self._let_go()
        return Decoded(
            lines=[row.automaton for row in done],
            row_passes=sum(row.forward_passes for row in done),
            drafted_tokens=sum(row.drafted_tokens for row in done),
            accepted_tokens=sum(row.accepted_tokens for row in done),
            joining_s=seconds[0],
            stepping_s=seconds[1],
        )

    def _joining(self, waiting: WaitingRows) -> list[Ticket]:
        running = len(self._batch.rows)
        room = self._max_rows - running
        if running and room < self._join_room * self._max_rows:
            return []
        tickets = waiting.take(room, _MAX_PREFILL_TOKENS, wait=False)
        return sorted(tickets, key=lambda ticket: (ticket.row.adapters, len(ticket.row.prompt_ids)))

    def _live(self, ticket: Ticket, job: Job) -> LiveRow:
        live = LiveRow(ticket, job.line(), max_positions=None)
        live.lora = job.lora
        return live

    def _leave(self, numbers: dict[int, int], done: list[Any]) -> None:
        for row in self._batch.leave():
            done[numbers[id(row.ticket.row)]] = row

    def _let_go(self) -> None:
        """Leaves no plan behind for whatever the model runs next."""
        self._followed = ()
        if self._switch is not None:
            self._switch.plan = None

    def _follow(self, rows: Sequence[LiveRow]) -> None:
        if self._switch is None or tuple(rows) == self._followed:
            return
        self._followed = tuple(rows)
        plan = self._plan([row.lora for row in rows], self._device, self._stacks)
        self._switch.plan = None if plan.is_empty else plan
