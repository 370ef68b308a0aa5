"""The prior's say in decoding: its probability of every token that the grammar allows, to a power.

    p(token) ∝ (p_model(token) · p_prior(token)^weight)^(1 / (1 + weight))      among the allowed tokens

The root changes no choice: it leaves probabilities as sure as the two are; a bare product would be surer.

The prior knows decisions, the line is made of tokens. A token that begins a mention stands for all the
places where it may begin one, each with the chance that no mention starts before it; a token that goes on
for going on; a marker for the end of the mention and its label; the end of the line for no more mentions.
Where several readings of the line are alive, each counts as much as it is probable. A label that the prior
does not know has its even part of all labels. Source: own choice (product of experts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from retrieveall.engine.automaton import NOWHERE, Found, LabelGrammar, Reading, TagLineAutomaton
from retrieveall.engine.chain import Chain
from retrieveall.types import OUTSIDE, UnitScores

_LEAST = 1e-5  # the prior never rules anything out


class PriorView:
    """What the prior says along one row's line.

    Args:
        scores: Of the row's sentence.

    Attributes:
        weight: The power to which its probabilities count.
    """

    def __init__(self, scores: UnitScores) -> None:
        self.weight = scores.weight
        self._chain = Chain(scores)
        self._ends: dict[tuple[int, int, int], tuple[float, dict[str, float]]] = {}

    def logprobs(self, automaton: TagLineAutomaton) -> list[float]:
        """Returns weight · ln p_prior for each of the automaton's allowed tokens, in their order."""
        chances = dict.fromkeys(automaton.allowed(), 0.0)
        for reading in automaton.readings:
            weight = self._chance_of(automaton, reading) if len(automaton.readings) > 1 else 1.0
            if reading.node != NOWHERE:
                self._in_marker(automaton, reading, weight, chances)
            elif reading.position != NOWHERE:
                self._in_mention(automaton, reading, weight, chances)
            else:
                self._between(automaton, reading, weight, chances)
        total = sum(chances.values()) or 1.0
        return [self.weight * math.log(max(chance / total, _LEAST)) for chance in chances.values()]

    def _between(
        self, automaton: TagLineAutomaton, reading: Reading, weight: float, chances: dict[int, float]
    ) -> None:
        tokens = automaton.tokens
        starts, none = self._chain.starts(reading.cursor, self._tag_before(reading.found, reading.cursor))
        for unit, chance in enumerate(starts.tolist(), start=reading.cursor):
            chances[tokens.ids[tokens.first_token[unit]]] += weight * chance
        chances[automaton.end_id] += weight * none

    def _in_mention(
        self, automaton: TagLineAutomaton, reading: Reading, weight: float, chances: dict[int, float]
    ) -> None:
        tokens, place = automaton.tokens, reading.position
        if not tokens.is_last[place]:
            chances[tokens.ids[place + 1]] += weight
            return
        goes_on, of_label = self._ends_of(automaton, reading)
        if place + 1 < len(tokens.ids):
            chances[tokens.ids[place + 1]] += weight * goes_on
        _share(automaton.grammar, 0, of_label, weight * (1.0 - goes_on), chances)

    def _in_marker(
        self, automaton: TagLineAutomaton, reading: Reading, weight: float, chances: dict[int, float]
    ) -> None:
        _, of_label = self._ends_of(automaton, reading)
        _share(automaton.grammar, reading.node, of_label, weight, chances)

    def _ends_of(self, automaton: TagLineAutomaton, reading: Reading) -> tuple[float, dict[str, float]]:
        """The chance that the reading's mention goes on behind its last unit, and of each label if not."""
        end_unit = automaton.tokens.unit[reading.position] + 1
        return self._ends_at(automaton.grammar, reading.found, reading.first_unit, end_unit)

    def _ends_at(
        self, grammar: LabelGrammar, last: Found | None, first_unit: int, end_unit: int
    ) -> tuple[float, dict[str, float]]:
        mention = first_unit, self._tag_before(last, first_unit), end_unit
        if mention not in self._ends:
            goes_on, shares_L = self._chain.ends(*mention)
            of_label = dict(zip(self._chain.labels, shares_L.tolist(), strict=True))
            self._ends[mention] = goes_on, _over(grammar.labels, of_label)
        return self._ends[mention]

    def _chance_of(self, automaton: TagLineAutomaton, reading: Reading) -> float:
        """The chance of all decisions of a reading so far."""
        chance, last = 1.0, reading.found
        if reading.first_unit != NOWHERE:
            unit = automaton.tokens.unit[reading.position]
            chance = self._chance_of_mention(automaton.grammar, last, reading.first_unit, unit)
        if reading.node != NOWHERE:
            goes_on, of_label = self._ends_of(automaton, reading)
            under = _labels_under(automaton.grammar, reading.node)
            chance *= (1.0 - goes_on) * sum(of_label[label] for label in under)
        while last is not None:
            before = last.previous
            chance *= self._chance_of_mention(automaton.grammar, before, last.first_unit, last.end_unit - 1)
            goes_on, of_label = self._ends_at(automaton.grammar, before, last.first_unit, last.end_unit)
            chance, last = chance * (1.0 - goes_on) * of_label[last.label], before
        return chance

    def _chance_of_mention(
        self, grammar: LabelGrammar, last: Found | None, first_unit: int, last_unit: int
    ) -> float:
        """The chance that the next mention behind another starts at a unit and reaches another."""
        cursor = 0 if last is None else last.end_unit
        starts, _ = self._chain.starts(cursor, self._tag_before(last, cursor))
        chance = float(starts[first_unit - cursor])
        for end in range(first_unit + 1, last_unit + 1):
            chance *= self._ends_at(grammar, last, first_unit, end)[0]
        return chance

    def _tag_before(self, last: Found | None, unit: int) -> int:
        """The tag of the unit before one that stands behind a finished mention, and all before it."""
        if unit == 0:
            return self._chain.start
        if last is None or last.end_unit < unit:
            return OUTSIDE
        return self._chain.tag_of(last.label, last.end_unit - last.first_unit)


def _over(labels: Sequence[str], of_label: Mapping[str, float]) -> dict[str, float]:
    """Spreads chances over a grammar's labels: those that are unknown have their even part."""
    known = {label: of_label[label] for label in labels if label in of_label}
    rest, total = len(known) / len(labels), sum(known.values())
    even = dict.fromkeys(labels, 1.0 / len(labels))
    return even | {label: rest * chance / total for label, chance in known.items()} if total else even


def _share(
    grammar: LabelGrammar, node: int, of_label: dict[str, float], chance: float, chances: dict[int, float]
) -> None:
    """Shares a chance among the tokens that follow a node of the markers' tree."""
    children = grammar.children[node]
    for token, child in children.items():
        among = sum(of_label[label] for label in _labels_under(grammar, child))
        chances[token] += chance * (1.0 if len(children) == 1 else among)


def _labels_under(grammar: LabelGrammar, node: int) -> Sequence[str]:
    label = grammar.leaf_label[node]
    if label is not None:
        return (label,)
    return [label for child in grammar.children[node].values() for label in _labels_under(grammar, child)]
