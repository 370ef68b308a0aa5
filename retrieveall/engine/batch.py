"""The rows under way: they join and leave at token steps, and each is decoded greedily to its line's end.

A row joins with one pass over its prompt, together with rows of near lengths. Every later step feeds each
row the token it chose last, with tokens that the grammar then forced, so that most forced tokens cost no
pass of their own. Behind them a row feeds a draft: the line as it would go on if the row's guess were
right. One pass then answers for every draft token whether the model would have chosen it; the first that
it would not ends the draft, and its columns of the cache are written again later. So greedy output stays
what it is. Adapters whose drafts are seldom right pause them.

Shorter feeds of a step are padded on the left. Row i stands in slot i of the cache; when one leaves,
the last one takes its slot.

Axes: N rows, L tokens of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch

from retrieveall.engine.automaton import TagLineAutomaton
from retrieveall.engine.drafting import DraftAccounts
from retrieveall.engine.fusion import PriorView
from retrieveall.engine.head import AllowedScorer, Question
from retrieveall.engine.kv_cache import TRASH, KvLimit, SlotCache
from retrieveall.engine.masks import AttentionMasks
from retrieveall.engine.passes import pass_cost, passes
from retrieveall.engine.protocol import Decoded
from retrieveall.engine.waiting import Ticket
from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.lora.weights import LoraWeights

# After its prompt a row is fed at most so many tokens at once: longer feeds save steps, but pad the others.
_FEED_TOKENS = 2
_JOIN_DRAFT_TOKENS = 24  # behind a prompt a draft costs little: prompts are longer


class LiveRow:
    """A row that is being decoded.

    Args:
        ticket: Whose row it is.
        automaton: Its tag line, nothing read yet.
        max_positions: Positions of the base, None where it says nothing.

    Attributes:
        lora: The adapters that act on it, with their weights: its entries of M.
        most_tokens: Prompt and line have no more tokens together.
        unseen: Tokens that the model has yet to be fed before the row's next choice.
        seen_tokens: Tokens of prompt and line that the cache holds for good.
        guess: What drafts are made of.
        draft: What the running step tries, the last token only compared.
        drafted_tokens: Draft tokens that were fed so far …
        accepted_tokens: … and those of them that the model had chosen, too.
        is_gone: Nobody waits for the row any more, or it failed.

    Raises:
        InputError: The prompt is longer than the base's positions.
    """

    def __init__(
        self,
        ticket: Ticket,
        automaton: TagLineAutomaton,
        *,
        max_positions: int | None,
    ) -> None:
        self.ticket = ticket
        self.automaton = automaton
        self.lora: Sequence[tuple[LoraWeights, float]] = ()
        self.most_tokens = ticket.most_tokens
        self.unseen: list[int] = [*ticket.row.prompt_ids, *automaton.forced()]
        self.seen_tokens = 0
        self.draft: list[int] = []
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.forward_passes = 0
        self.guess = ticket.row.guess
        self._prior = None if ticket.row.prior is None else PriorView(ticket.row.prior)
        self.is_gone = False
        self._max_positions = max_positions
        self._check_positions()

    @property
    def is_live(self) -> bool:
        """True while the row needs further steps."""
        return not (self.is_gone or self.automaton.finished)

    def feed(self, limit: int | None, draft_tokens: int) -> list[int]:
        """Hands out unseen tokens, and behind the last of them a draft.

        Args:
            limit: Most tokens, None for all unseen ones.
            draft_tokens: Most tokens of the draft, within the limit.
        """
        fed, self.unseen = self.unseen[:limit], self.unseen[len(self.unseen) if limit is None else limit :]
        self.seen_tokens += len(fed)
        self.forward_passes += 1
        self.draft = []
        if not self.unseen:
            room = draft_tokens if limit is None else min(draft_tokens, limit - len(fed))
            if self._max_positions is not None:
                room = min(room, self._max_positions - self.seen_tokens)
            # the last token of a draft is only compared: nothing is chosen behind it
            self.draft = self.automaton.draft(self.guess)[: room + 1] if room > 0 else []
        self.drafted_tokens += len(self.draft[:-1])
        return fed + self.draft[:-1]

    def questions(self) -> list[Question]:
        """Returns what the grammar allows behind the last unseen token and behind every fed draft token."""
        if self.unseen:
            return []
        asked = [self._question(self.automaton)]
        ahead = self.automaton.copy()
        for token in self.draft[:-1]:
            ahead.advance(token)
            asked.append(self._question(ahead))
        return asked

    def _question(self, automaton: TagLineAutomaton) -> Question:
        allowed = automaton.allowed()
        if self._prior is None or len(allowed) < 2:
            return Question(allowed)
        return Question(allowed, self._prior.logprobs(automaton), votes=1.0 + self._prior.weight)

    def settle(self, answers: Sequence[tuple[int, float]]) -> None:
        """Takes the model's choices as far as the draft foresaw them, and whatever the last one forces.

        Args:
            answers: Token and logarithm of its probability for each of `questions`.

        Raises:
            InputError: The line is longer than the base's positions.
            RetrieveAllError: A probability is not a number.
        """
        for number, (token, logprob) in enumerate(answers):
            if math.isnan(logprob):
                raise RetrieveAllError(
                    "The model's probabilities are not numbers. Check the adapter's weights, or use float32."
                )
            self.automaton.advance(token, logprob)
            if number + 1 == len(answers) or token != self.draft[number]:
                break
            self.seen_tokens += 1
            self.accepted_tokens += 1
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
        kv_bytes: Most bytes of the model's memory of all rows.
        prompt_tokens: Most tokens of a pass over prompts, padding counted.
        follow: Called with the rows of a forward pass, in their order, before it.

    Attributes:
        rows: Row i stands in slot i.
        limit: Which rows may be under way together; `join` relies on it.
    """

    def __init__(
        self,
        scorer: AllowedScorer,
        masks: AttentionMasks,
        *,
        pad_id: int,
        device: torch.device,
        kv_bytes: int,
        prompt_tokens: int,
        follow: Callable[[Sequence[LiveRow]], None],
    ) -> None:
        self.rows: list[LiveRow] = []
        self._scorer, self._masks, self._pad_id, self._device = scorer, masks, pad_id, device
        self._follow, self._prompt_tokens = follow, prompt_tokens
        self._drafting = DraftAccounts()
        self._cache = SlotCache()
        self.limit: KvLimit = self._measured(kv_bytes)
        self._cache = SlotCache(self.limit)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the model's memory, whether rows use it or not."""
        return self._cache.size_bytes

    @property
    def most_tokens(self) -> int:
        """No row under way will have more tokens."""
        return max((row.most_tokens for row in self.rows), default=0)

    def join(self, rows: Sequence[LiveRow]) -> int:
        """Takes rows in: passes over their prompts, whose number is returned, and their first choices."""
        live = len(self.rows)
        cost = pass_cost(self._device.type, self._prompt_tokens)
        cut = passes([len(row.unseen) for row in rows], self._prompt_tokens, cost)
        self.rows += [rows[number] for chosen in cut for number in chosen]
        self._cache.reserve(len(self.rows), self.most_tokens, live=live)
        for chosen in cut:
            together = self.rows[live : live + len(chosen)]
            for row in together:
                if row.guess and not self._drafting.admits(row.ticket.row.adapters):
                    row.guess = ()
            self._feed(together, live, limit=None, draft_tokens=_JOIN_DRAFT_TOKENS)
            live += len(chosen)
        return len(cut)

    def step(self) -> None:
        """Feeds every row unseen tokens and lets those choose that have seen all of theirs."""
        self._feed(self.rows, 0, limit=_FEED_TOKENS, draft_tokens=_FEED_TOKENS)

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
        self._cache = SlotCache(self.limit)
        return left

    def _measured(self, kv_bytes: int) -> KvLimit:
        """Finds out by one token what tokens take: models differ in heads and in which layers remember."""
        self._cache.reserve(1, 1, live=0)
        with torch.inference_mode():
            self._scorer.states(1, use_cache=True, **self._inputs([0], [[self._pad_id]], 0))
        return self._cache.limit(kv_bytes)

    def _feed(
        self, rows: Sequence[LiveRow], first_slot: int, *, limit: int | None, draft_tokens: int
    ) -> None:
        self._follow(rows)
        starts = [row.seen_tokens for row in rows]
        feeds = [row.feed(limit, draft_tokens) for row in rows]
        asked = [row.questions() for row in rows]
        columns = max(1, *map(len, asked))
        inputs = self._inputs(starts, feeds, first_slot)
        states_NL = self._scorer.states(columns, use_cache=True, **inputs)
        if not any(asked):
            return
        places = [
            number * columns + columns - len(questions) + i
            for number, questions in enumerate(asked)
            for i in range(len(questions))
        ]
        states = states_NL.flatten(0, 1)[torch.tensor(places, device=self._device)]
        tokens, logprobs = self._scorer.choose(states, [one for questions in asked for one in questions])
        answers = iter(zip(tokens, logprobs, strict=True))
        for row, questions in zip(rows, asked, strict=True):
            if not questions:
                continue
            accepted = row.accepted_tokens
            try:
                row.settle(list(islice(answers, len(questions))))
            except RetrieveAllError as error:
                row.is_gone = True
                row.ticket.fail(error)
            if drafted := len(row.draft[:-1]):
                accepted = row.accepted_tokens - accepted
                self._drafting.note(row.ticket.row.adapters, drafted=drafted, accepted=accepted)

    def _inputs(
        self, starts: Sequence[int], feeds: Sequence[Sequence[int]], first_slot: int
    ) -> dict[str, Any]:
        width = max(map(len, feeds))
        ids, positions, columns = [], [], []
        for start, feed in zip(starts, feeds, strict=True):
            holes = width - len(feed)
            ids.append([self._pad_id] * holes + list(feed))
            positions.append([0] * holes + list(range(start, start + len(feed))))
            columns.append([TRASH] * holes + list(range(start + 1, start + len(feed) + 1)))
        places = self._cache.places
        places.first_slot = first_slot
        places.columns_NL = torch.tensor(columns, device=self._device)
        places.width = max(start + len(feed) for start, feed in zip(starts, feeds, strict=True))
        # on a GPU a column that is not there would end the process
        assert places.width < places.columns, f"{places.width} tokens in {places.columns} columns"
        positions_NL = torch.tensor(positions, device=self._device)
        return {
            "input_ids": torch.tensor(ids, device=self._device),
            "attention_mask": self._masks.build(positions_NL, places.width),
            "position_ids": positions_NL,
            "past_key_values": self._cache,
        }
