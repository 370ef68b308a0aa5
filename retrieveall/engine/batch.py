"""One batch of rows, decoded greedily to the end of its last line.

Prompts are padded on the left. Every step feeds each row tokens it has not seen yet: at first its prompt,
later the token it chose with tokens that the grammar then forced, so that most forced tokens cost no pass
of their own. Shorter feeds are padded on the left, too; the attention mask hides the holes.
Rows that are done stay as padding until half of the batch is done, then the batch is packed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton
from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.kv_cache import new_cache
from retrieveall.engine.protocol import Decoded
from retrieveall.engine.waiting import Ticket
from retrieveall.errors import InputError, RetrieveAllError

_PACK_BELOW = 0.5  # of the rows a batch holds
# After its prompt a row is fed at most so many tokens at once. One core, 32 rows, d 256: 94 steps of 1 token,
# 60 of up to 2, 44 of any number; fewer steps, but more padding, so that 2 is as fast as any and cheapest.
_FEED_TOKENS = 2


class LiveRow:
    """A row that is being decoded.

    Args:
        ticket: Whose row it is.
        automaton: Its tag line, nothing read yet.
        max_positions: Positions of the base, None where it says nothing.

    Attributes:
        unseen: Tokens that the model has yet to be fed before the row's next choice.
        longest_line: No line of this sentence has more tokens.

    Raises:
        InputError: The prompt is longer than the base's positions.
    """

    def __init__(self, ticket: Ticket, automaton: TagLineAutomaton, *, max_positions: int | None) -> None:
        self.ticket = ticket
        self.automaton = automaton
        self.longest_line = automaton.longest_line
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


class DecodingBatch:
    """The model's side of a batch: cache, mask and positions.

    Args:
        scorer: The model.
        rows: Live rows.
        pad_id: Any token; padding is masked.
        device: The model's device.
        window_tokens: Width of the model's sliding attention, None where every token sees all before it.
    """

    def __init__(
        self,
        scorer: AllowedScorer,
        rows: Sequence[LiveRow],
        *,
        pad_id: int,
        device: torch.device,
        window_tokens: int | None,
    ) -> None:
        self.rows = list(rows)
        self._scorer, self._pad_id, self._device = scorer, pad_id, device
        self._window_tokens = window_tokens
        self._cache: Any = new_cache()
        self._mask_NT = torch.zeros(len(self.rows), 0, dtype=torch.long, device=device)

    def step(self) -> None:
        """Feeds every live row unseen tokens and lets those choose that have seen all of theirs."""
        states = self._scorer.states(1, use_cache=True, **self._inputs())[:, 0]
        ready = [number for number, row in enumerate(self.rows) if row.is_live and not row.unseen]
        if not ready:
            return
        if len(ready) < len(self.rows):
            states = states[torch.tensor(ready, device=self._device)]
        choosing = [self.rows[number] for number in ready]
        tokens, logprobs = self._scorer.choose(states, [row.automaton.allowed() for row in choosing])
        for row, token, logprob in zip(choosing, tokens, logprobs, strict=True):
            try:
                row.choose(token, logprob)
            except RetrieveAllError as error:
                row.is_gone = True
                row.ticket.fail(error)

    def _inputs(self) -> dict[str, Any]:
        limit = self._feed_limit()
        starts = [row.seen_tokens for row in self.rows]
        feeds = [row.feed(limit) if row.is_live else [] for row in self.rows]
        width = max(map(len, feeds))
        ids, mask, positions = [], [], []
        for start, feed in zip(starts, feeds, strict=True):
            holes = width - len(feed)
            ids.append([self._pad_id] * holes + feed)
            mask.append([0] * holes + [1] * len(feed))
            positions.append([0] * holes + list(range(start, start + len(feed))))
        new_mask = torch.tensor(mask, device=self._device)
        self._mask_NT = torch.cat([self._mask_NT, new_mask], dim=1)
        return {
            "input_ids": torch.tensor(ids, device=self._device),
            "attention_mask": self._mask_NT,
            "position_ids": torch.tensor(positions, device=self._device),
            "past_key_values": self._cache,
        }

    def _feed_limit(self) -> int | None:
        """Returns how many tokens a row may be fed at once, None for its whole prompt.

        Sliding attention counts columns, holes with them. So holes may come up only where the batch
        cannot outgrow the window any more, even at one token a step.
        """
        columns = self._mask_NT.shape[1]
        if columns == 0:
            return None
        longest = max(row.longest_line for row in self.rows if row.is_live)
        fits = self._window_tokens is None or columns + _FEED_TOKENS + longest <= self._window_tokens
        return _FEED_TOKENS if fits else 1

    def pack(self) -> bool:
        """Drops rows that are done where it pays; says whether it did."""
        live = [number for number, row in enumerate(self.rows) if row.is_live]
        if not live or len(live) > _PACK_BELOW * len(self.rows):
            return False
        kept = torch.tensor(live, device=self._device)
        self._cache.batch_select_indices(kept)
        self._mask_NT = self._mask_NT[kept]
        self.rows = [self.rows[number] for number in live]
        return True


def decode(
    batch: DecodingBatch,
    *,
    now_s: Callable[[], float],
    on_pass: Callable[[], None],
    on_done: Callable[[LiveRow], None],
    on_pack: Callable[[Sequence[LiveRow]], None],
) -> None:
    """Decodes a batch to its end.

    Args:
        batch: Rows at their first choice.
        now_s: The clock of deadlines.
        on_pass: Called after every forward pass.
        on_done: Called once per row, finished or gone.
        on_pack: Called with the rows that stay, after others were dropped.
    """
    while True:
        for row in batch.rows:
            if row.is_live and row.ticket.is_gone(now_s()):
                row.is_gone = True
                on_done(row)
        if not any(row.is_live for row in batch.rows):
            return
        if batch.pack():
            on_pack(batch.rows)
        before = [row for row in batch.rows if row.is_live]
        batch.step()
        on_pass()
        for row in before:
            if not row.is_live:
                on_done(row)
