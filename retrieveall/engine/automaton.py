"""The grammar of a tag line as an automaton over the tokens of one sentence.

    line    = entity* end
    entity  = mention label-marker
    mention = a run of the sentence's units, after the previous mention

The text format leaves three things open, which the automaton keeps apart by following every reading
of the line at once (a non-deterministic automaton with very few threads):

- A mention's tokens may stand in several places: all are followed. A mention stands for its next
  occurrence, so once a label has begun only the earliest of them lives on.
- A token may both continue the mention and begin a label marker: both readings live on until one fails.
- Where two readings reach the end of the line, the one whose entities come first wins.

Every token of a mention moves forward in the sentence, so a line always ends.
Source: own choice; the papers decode freely and match strings afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from retrieveall.engine.protocol import DecodedSpan, GuessedSpan
from retrieveall.errors import ConfigError, InputError
from retrieveall.prompting.codec import EncodedText

NOWHERE = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelGrammar:
    """The label markers of one adapter, as a prefix tree over their token ids.

    Attributes:
        labels: The labels, in the order given.
        children: Per node the token ids that may follow and the nodes they lead to; node 0 is the root.
        leaf_label: Per node the label that ends there, None inside a marker.
        marker_ids: The token ids of each label's marker.
    """

    labels: tuple[str, ...]
    children: tuple[dict[int, int], ...]
    leaf_label: tuple[str | None, ...]
    marker_ids: Mapping[str, tuple[int, ...]]


@lru_cache(maxsize=1024)
def label_grammar(labels: tuple[str, ...], label_ids: tuple[tuple[int, ...], ...]) -> LabelGrammar:
    """Builds the prefix tree of some label markers; cached, because thousands of rows share one.

    Args:
        labels: L labels.
        label_ids: The L token sequences of their markers, as `PromptCodec.label` gives them.

    Raises:
        InputError: There are no labels.
        ConfigError: One marker's tokens begin with another's, so that a line could not be read back.
    """
    if not labels:
        raise InputError("No labels were given, at least one is needed. Take them from the adapter's card.")
    children: list[dict[int, int]] = [{}]
    leaf_label: list[str | None] = [None]
    for label, ids in zip(labels, label_ids, strict=True):
        node = 0
        for token in ids:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                leaf_label.append(None)
            node = children[node][token]
        leaf_label[node] = label
    _check_prefix_free(children, leaf_label, labels)
    return LabelGrammar(
        labels=labels,
        children=tuple(children),
        leaf_label=tuple(leaf_label),
        marker_ids=dict(zip(labels, label_ids, strict=True)),
    )


def _check_prefix_free(
    children: list[dict[int, int]], leaf_label: list[str | None], labels: tuple[str, ...]
) -> None:
    leaves = {label for label, after in zip(leaf_label, children, strict=True) if label and not after}
    clashing = sorted(set(labels) - leaves)
    if clashing or len(leaves) != len(labels):
        raise ConfigError(
            f"The labels {labels} were given, but the tokens of one marker begin with those of another"
            f" (look at {clashing or 'duplicates'}). Rename a label, or add the markers to the tokenizer."
        )


class SentenceTokens:
    """A sentence as one run of tokens, with the borders of its units.

    Args:
        sentence: The encoded sentence, T tokens in U units.

    Attributes:
        ids: T token ids.
        unit: T unit numbers, one per token.
        is_last: T flags, True at the last token of a unit.
        first_token: U + 1 positions, the first token of each unit and T.
    """

    def __init__(self, sentence: EncodedText) -> None:
        self.ids: list[int] = []
        self.unit: list[int] = []
        self.is_last: list[bool] = []
        self.first_token: list[int] = []
        for number, unit_ids in enumerate(sentence.unit_ids):
            self.first_token.append(len(self.ids))
            self.ids += unit_ids
            self.unit += [number] * len(unit_ids)
            self.is_last += [False] * (len(unit_ids) - 1) + [True]
        self.first_token.append(len(self.ids))


class Found(NamedTuple):
    """A finished entity of one reading; entities before it hang on ``previous``."""

    first_unit: int
    end_unit: int
    label: str
    first_step: int
    end_step: int
    previous: Found | None


class Reading(NamedTuple):
    """One reading of the line so far.

    Between entities ``position`` and ``node`` are `NOWHERE`; inside a mention ``position`` is the
    token last read; inside a label marker ``node`` is where the reading stands in the prefix tree.
    """

    found: Found | None
    cursor: int  # the first unit that is still free
    first_unit: int = NOWHERE
    first_step: int = NOWHERE
    position: int = NOWHERE
    node: int = NOWHERE


class TagLineAutomaton:
    """Follows one tag line token by token. Not thread-safe.

    Args:
        sentence: The sentence whose units mentions are made of.
        grammar: The labels that may be emitted.
        end_id: The token that ends the line.

    Attributes:
        tokens: The sentence as one run of tokens.
        grammar: As given.
        end_id: As given.
        readings: All readings of the line so far that are alive, those whose mentions come first before
            others.
        finished: True once the end token was read.
    """

    def __init__(self, sentence: EncodedText, grammar: LabelGrammar, end_id: int) -> None:
        self._sentence = sentence
        self.tokens = SentenceTokens(sentence)
        self.grammar = grammar
        self.end_id = end_id
        self.readings = [Reading(None, 0)]
        self._logprobs: list[float] = []
        self._allowed: tuple[int, ...] | None = None
        self.finished = False

    @property
    def steps(self) -> int:
        """Tokens read so far."""
        return len(self._logprobs)

    def allowed(self) -> tuple[int, ...]:
        """Returns the token ids that may come next, sorted; empty once finished."""
        if self._allowed is None:
            ids: set[int] = set()
            if not self.finished:
                for thread in self.readings:
                    self._collect(thread, ids)
            self._allowed = tuple(sorted(ids))
        return self._allowed

    def advance(self, token: int, logprob: float = 0.0) -> None:
        """Reads one token.

        Args:
            token: One of `allowed()`.
            logprob: Natural logarithm of the token's probability among the allowed ones.

        Raises:
            ValueError: The token is not allowed here.
        """
        if token not in self.allowed():
            raise ValueError(f"Token {token} was given; the grammar allows {self.allowed()} here.")
        self._logprobs.append(logprob)
        self._allowed = None
        between = [thread for thread in self.readings if _is_between(thread)]
        if token == self.end_id and between:
            self.readings = between[:1]
            self.finished = True
            return
        after: list[Reading] = []
        for thread in self.readings:
            after += self._after(thread, token)
        self.readings = _without_shadowed(after)

    def copy(self) -> TagLineAutomaton:
        """Returns an automaton that stands where this one stands and goes its own way from here."""
        other = TagLineAutomaton.__new__(TagLineAutomaton)
        other.__dict__.update(self.__dict__)
        other._logprobs = list(self._logprobs)
        return other

    def draft(self, guess: Sequence[GuessedSpan]) -> list[int]:
        """Returns the tokens of the rest of the line if it held the guessed mentions that may still come.

        Empty where the line stands in a mention that was not guessed, or in a marker.

        Args:
            guess: Mentions in order; labels that are not the grammar's are passed over.
        """
        thread, tokens = self.readings[0], self.tokens
        if self.finished or thread.node != NOWHERE:
            return []
        known = [span for span in guess if span.label in self.grammar.marker_ids]
        ids: list[int] = []
        cursor = thread.cursor
        if thread.position != NOWHERE:
            here = next((span for span in known if span.first_unit == thread.first_unit), None)
            if here is None or tokens.unit[thread.position] >= here.end_unit:
                return []
            ids += tokens.ids[thread.position + 1 : tokens.first_token[here.end_unit]]
            ids += self.grammar.marker_ids[here.label]
            cursor = here.end_unit
        for span in known:
            if span.first_unit >= cursor:
                ids += tokens.ids[tokens.first_token[span.first_unit] : tokens.first_token[span.end_unit]]
                ids += self.grammar.marker_ids[span.label]
        return [*ids, self.end_id]

    def forced(self) -> list[int]:
        """Reads every token that is the only one allowed, up to the next choice or the end.

        Returns:
            The tokens that were read.
        """
        read = []
        while len(allowed := self.allowed()) == 1:
            read.append(allowed[0])
            self.advance(allowed[0])
        return read

    def spans(self) -> tuple[DecodedSpan, ...]:
        """Returns the entities of the line in order of appearance, of an unfinished line so far."""
        found: list[Found] = []
        last = self.readings[0].found
        while last is not None:
            found.append(last)
            last = last.previous
        return tuple(self._span(entity) for entity in reversed(found))

    def _span(self, entity: Found) -> DecodedSpan:
        units = self._sentence.units
        return DecodedSpan(
            start_char=units[entity.first_unit].start_char,
            end_char=units[entity.end_unit - 1].end_char,
            label=entity.label,
            logprob=sum(self._logprobs[entity.first_step : entity.end_step]),
        )

    def _collect(self, thread: Reading, ids: set[int]) -> None:
        """Adds what one reading allows next."""
        tokens = self.tokens
        if thread.node != NOWHERE:
            ids.update(self.grammar.children[thread.node])
        elif thread.position != NOWHERE:
            if thread.position + 1 < len(tokens.ids):
                ids.add(tokens.ids[thread.position + 1])
            if tokens.is_last[thread.position]:
                ids.update(self.grammar.children[0])
        else:
            ids.add(self.end_id)
            ids.update(tokens.ids[start] for start in tokens.first_token[thread.cursor : -1])

    def _after(self, thread: Reading, token: int) -> list[Reading]:
        """Returns what one reading becomes by a token: nothing, one reading, or several."""
        if thread.node != NOWHERE:
            return self._in_label(thread, thread.node, token)
        if thread.position == NOWHERE:
            return self._starts(thread, token)
        tokens, after = self.tokens, []
        follower = thread.position + 1
        if tokens.is_last[thread.position]:
            after += self._in_label(thread, 0, token)
        if follower < len(tokens.ids) and tokens.ids[follower] == token:
            after.append(Reading(thread.found, thread.cursor, thread.first_unit, thread.first_step, follower))
        return after

    def _starts(self, thread: Reading, token: int) -> list[Reading]:
        tokens, step = self.tokens, self.steps - 1
        return [
            Reading(thread.found, thread.cursor, unit, step, tokens.first_token[unit])
            for unit in range(thread.cursor, len(tokens.first_token) - 1)
            if tokens.ids[tokens.first_token[unit]] == token
        ]

    def _in_label(self, thread: Reading, node: int, token: int) -> list[Reading]:
        child = self.grammar.children[node].get(token)
        if child is None:
            return []
        label = self.grammar.leaf_label[child]
        end_unit = self.tokens.unit[thread.position] + 1
        if label is None:
            return [
                Reading(
                    thread.found, end_unit, thread.first_unit, thread.first_step, thread.position, node=child
                )
            ]
        found = Found(
            thread.first_unit, end_unit, label, thread.first_step, self.steps, previous=thread.found
        )
        return [Reading(found, end_unit)]


def longest_line(sentence: EncodedText, label_ids: Sequence[Sequence[int]]) -> int:
    """Returns the most tokens that a line of a sentence may have, its end token counted.

    Every unit would be a mention of its own, with the longest marker behind it.

    Args:
        sentence: The sentence.
        label_ids: The token sequences of the labels' markers.
    """
    marker = max(map(len, label_ids), default=0)
    return sum(map(len, sentence.unit_ids)) + len(sentence.unit_ids) * marker + 1


def choices_along(sentence: EncodedText, grammar: LabelGrammar, line: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns what the grammar allows at each token of a finished line, sorted; one id means no choice.

    Args:
        sentence: The sentence that the line tags.
        grammar: The labels that may be emitted.
        line: Mentions and markers, and the end token last.

    Raises:
        ValueError: The line is not of this grammar.
    """
    automaton = TagLineAutomaton(sentence, grammar, line[-1])
    choices = []
    for token in line:
        choices.append(automaton.allowed())
        automaton.advance(token)
    return choices


def _is_between(thread: Reading) -> bool:
    return thread.position == NOWHERE


def _without_shadowed(threads: Sequence[Reading]) -> list[Reading]:
    """Drops readings that an earlier one stands for; readings come ordered by where mentions start.

    Two readings are rivals when they took the same tokens for the same entity at different places:
    the earliest place wins once the label has begun. Two readings are twins when the same lines may
    follow: the first is enough, which keeps their number below a few per token of the sentence.
    """
    kept: list[Reading] = []
    seen: set[tuple[object, ...]] = set()
    for thread in threads:
        keys = {_rival_key(thread), _twin_key(thread)}
        if seen.isdisjoint(keys):
            kept.append(thread)
            seen |= keys
    return kept


def _rival_key(thread: Reading) -> tuple[object, ...]:
    if thread.node != NOWHERE:
        return ("label", id(thread.found), thread.first_step, thread.node)
    if _is_between(thread) and thread.found is not None:
        return ("found", id(thread.found.previous), thread.found.first_step, thread.found.label)
    return ("mention", thread.position)


def _twin_key(thread: Reading) -> tuple[object, ...]:
    return (thread.cursor if _is_between(thread) else NOWHERE, thread.position, thread.node)
