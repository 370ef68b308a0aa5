"""The rows under way: they join and leave at token steps, and each is decoded greedily to its line's end.

A row joins with one pass over its prompt. Every later step feeds each row the token it chose last,
with tokens that the grammar then forced, so that most forced tokens cost no pass of their own. Shorter
feeds of a step are padded on the left. Row i stands in slot i of the cache; when one leaves, the last
one takes its slot.

Axes: N rows, L tokens of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.kv_cache import TRASH, SlotCache
from retrieveall.engine.masks import AttentionMasks
from retrieveall.engine.protocol import Decoded
from retrieveall.engine.waiting import Ticket
from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.lora.weights import LoraWeights

# After its prompt a row is fed at most so many tokens at once: longer feeds save steps, but pad the others.
_FEED_TOKENS = 2


class LiveRow:
    """A row that is being decoded.

    Args:
        ticket: Whose row it is.
        automaton: Its tag line, nothing read yet.
        lora: The adapters that act on it, with their weights.
        max_positions: Positions of the base, None where it says nothing.

    Attributes:
        unseen: Tokens that the model has yet to be fed before the row's next choice.
        is_gone: Nobody waits for the row any more, or it failed.

    Raises:
        InputError: The prompt is longer than the base's positions.
    """

    def __init__(
        self,
        ticket: Ticket,
        automaton: TagLineAutomaton,
        lora: Sequence[tuple[LoraWeights, float]],
        *,
        max_positions: int | None,
    ) -> None:
        self.ticket = ticket
        self.automaton = automaton
        self.lora = lora
        self.unseen: list[int] = [*ticket.row.prompt_ids, *automaton.forced()]
        self.seen_tokens = 0
        self.forward_passes = 0
        self.is_gone = False
        self._max_positions = max_positions
        self._check_positions()

    @property
    def is_live(self) -> bool:
        """True while the row needs further steps."""
        return not (self.is_gone or self.automaton.finished)

    def feed(self, limit: int | None) -> list[int]:
        """Hands out up to ``limit`` unseen tokens, all where it is None."""
        fed, self.unseen = self.unseen[:limit], self.unseen[len(self.unseen) if limit is None else limit :]
        self.seen_tokens += len(fed)
        self.forward_passes += 1
        return fed

    def choose(self, token: int, logprob: float) -> None:
        """Takes the model's choice and whatever it forces.

        Raises:
            InputError: The line is longer than the base's positions.
            RetrieveAllError: The probability is not a number.
        """
        if math.isnan(logprob):
            raise RetrieveAllError(
                "The model's probabilities are not numbers. Check the adapter's weights, or use float32."
            )
        self.automaton.advance(token, logprob)
        self.unseen = [token, *self.automaton.forced()]
        self._check_positions()

    def _check_positions(self) -> None:
        tokens = self.seen_tokens + len(self.unseen)
        if self.is_live and self._max_positions is not None and tokens > self._max_positions:
            raise InputError(
                f"Prompt and tag line need {tokens} positions, the base has {self._max_positions}."
                " Split the text into shorter windows, or lower the prompt budget."
            )

    def decoded(self) -> Decoded:
        """Returns the answer of a finished row."""
        return Decoded(
            spans=self.automaton.spans(),
            prompt_tokens=len(self.ticket.row.prompt_ids),
            new_tokens=self.automaton.steps,
            forward_passes=self.forward_passes,
        )


class RunningBatch:
    """The rows under way and the model's memory of them.

    Args:
        scorer: The model.
        masks: Builds its attention masks.
        pad_id: Any token; padding is masked.
        device: The model's device.
        follow: Called with the rows of a forward pass, in their order, before it.

    Attributes:
        rows: Row i stands in slot i.
    """

    def __init__(
        self,
        scorer: AllowedScorer,
        masks: AttentionMasks,
        *,
        pad_id: int,
        device: torch.device,
        follow: Callable[[Sequence[LiveRow]], None],
    ) -> None:
        self.rows: list[LiveRow] = []
        self._scorer, self._masks, self._pad_id, self._device = scorer, masks, pad_id, device
        self._follow = follow
        self._cache = SlotCache()

    def join(self, rows: Sequence[LiveRow]) -> None:
        """Takes rows in: one pass over their prompts, and their first choice."""
        first_slot = len(self.rows)
        self.rows += rows
        self._feed(rows, first_slot, limit=None)

    def step(self) -> None:
        """Feeds every row unseen tokens and lets those choose that have seen all of theirs."""
        self._feed(self.rows, 0, limit=_FEED_TOKENS)

    def leave(self) -> list[LiveRow]:
        """Drops and returns the rows that need no further steps."""
        left = [row for row in self.rows if not row.is_live]
        for slot in reversed(range(len(self.rows))):
            if not self.rows[slot].is_live:
                last = self.rows.pop()
                if slot < len(self.rows):
                    self._cache.move(len(self.rows), slot, last.seen_tokens)
                    self.rows[slot] = last
        return left

    def clear(self) -> list[LiveRow]:
        """Drops and returns all rows, and what the model remembers."""
        left, self.rows = self.rows, []
        self._cache = SlotCache()
        return left

    def _feed(self, rows: Sequence[LiveRow], first_slot: int, *, limit: int | None) -> None:
        self._follow(rows)
        states = self._scorer.states(1, use_cache=True, **self._inputs(rows, first_slot, limit))[:, 0]
        ready = [number for number, row in enumerate(rows) if not row.unseen]
        if not ready:
            return
        if len(ready) < len(rows):
            states = states[torch.tensor(ready, device=self._device)]
        choosing = [rows[number] for number in ready]
        tokens, logprobs = self._scorer.choose(states, [row.automaton.allowed() for row in choosing])
        for row, token, logprob in zip(choosing, tokens, logprobs, strict=True):
            try:
                row.choose(token, logprob)
            except RetrieveAllError as error:
                row.is_gone = True
                row.ticket.fail(error)

    def _inputs(self, rows: Sequence[LiveRow], first_slot: int, limit: int | None) -> dict[str, Any]:
        starts = [row.seen_tokens for row in rows]
        feeds = [row.feed(limit) for row in rows]
        width = max(map(len, feeds))
        ids, positions, columns = [], [], []
        for start, feed in zip(starts, feeds, strict=True):
            holes = width - len(feed)
            ids.append([self._pad_id] * holes + feed)
            positions.append([0] * holes + list(range(start, start + len(feed))))
            columns.append([TRASH] * holes + list(range(start + 1, start + len(feed) + 1)))
        places = self._cache.places
        places.first_slot = first_slot
        places.columns_NL = torch.tensor(columns, device=self._device)
        places.width = max(row.seen_tokens for row in rows)
        positions_NL = torch.tensor(positions, device=self._device)
        return {
            "input_ids": torch.tensor(ids, device=self._device),
            "attention_mask": self._masks.build(positions_NL, places.width),
            "position_ids": positions_NL,
            "past_key_values": self._cache,
        }
