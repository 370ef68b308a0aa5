"""The prior's say in decoding: its probability of every token that the grammar allows, to a power.

    p(token) ∝ (p_model(token) · p_prior(token)^weight)^(1 / (1 + weight))      among the allowed tokens

The root changes no choice: it leaves probabilities as sure as the two are; a bare product would be surer.

The prior knows decisions, the line is made of tokens. A token that begins a mention stands for all the
places where it may begin one, each with the chance that no mention starts before it; a token that goes on
for going on; a marker for the end of the mention and its label; the end of the line for no more mentions.
Where several readings of the line are alive their chances are added. Source: own choice (product of experts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from retrieveall.engine.automaton import NOWHERE, LabelGrammar, Reading, TagLineAutomaton
from retrieveall.engine.chain import Chain
from retrieveall.types import UnitScores

_LEAST = 1e-5  # the prior never rules anything out
_OUTSIDE = 0  # the tag


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
            if reading.node != NOWHERE:
                self._in_marker(automaton, reading, chances)
            elif reading.position != NOWHERE:
                self._in_mention(automaton, reading, chances)
            else:
                self._between(automaton, reading, chances)
        total = sum(chances.values()) or 1.0
        return [self.weight * math.log(max(chance / total, _LEAST)) for chance in chances.values()]

    def _between(self, automaton: TagLineAutomaton, reading: Reading, chances: dict[int, float]) -> None:
        tokens = automaton.tokens
        starts, none = self._chain.starts(reading.cursor, self._tag_before(reading, reading.cursor))
        for unit, chance in enumerate(starts.tolist(), start=reading.cursor):
            chances[tokens.ids[tokens.first_token[unit]]] += chance
        chances[automaton.end_id] += none

    def _in_mention(self, automaton: TagLineAutomaton, reading: Reading, chances: dict[int, float]) -> None:
        tokens, place = automaton.tokens, reading.position
        if not tokens.is_last[place]:
            chances[tokens.ids[place + 1]] += 1.0
            return
        goes_on, of_label = self._ends_of(automaton, reading)
        if place + 1 < len(tokens.ids):
            chances[tokens.ids[place + 1]] += goes_on
        _share(automaton.grammar, 0, of_label, 1.0 - goes_on, chances)

    def _in_marker(self, automaton: TagLineAutomaton, reading: Reading, chances: dict[int, float]) -> None:
        _, of_label = self._ends_of(automaton, reading)
        _share(automaton.grammar, reading.node, of_label, 1.0, chances)

    def _ends_of(self, automaton: TagLineAutomaton, reading: Reading) -> tuple[float, dict[str, float]]:
        """The chance that the reading's mention goes on behind its last unit, and of each label if not."""
        end_unit = automaton.tokens.unit[reading.position] + 1
        before = self._tag_before(reading, reading.first_unit)
        mention = reading.first_unit, before, end_unit
        if mention not in self._ends:
            goes_on, shares_L = self._chain.ends(*mention)
            self._ends[mention] = goes_on, dict(zip(self._chain.labels, shares_L.tolist(), strict=True))
        return self._ends[mention]

    def _tag_before(self, reading: Reading, unit: int) -> int:
        """The tag of the unit before one that stands behind all of a reading's finished mentions."""
        last = reading.found
        if unit == 0:
            return self._chain.start
        if last is None or last.end_unit < unit:
            return _OUTSIDE
        return self._chain.tag_of(last.label, last.end_unit - last.first_unit)


def _share(
    grammar: LabelGrammar, node: int, of_label: dict[str, float], chance: float, chances: dict[int, float]
) -> None:
    """Shares a chance among the tokens that follow a node of the markers' tree."""
    children = grammar.children[node]
    for token, child in children.items():
        among = sum(of_label.get(label, 0.0) for label in _labels_under(grammar, child))
        chances[token] += chance * (1.0 if len(children) == 1 else among)


def _labels_under(grammar: LabelGrammar, node: int) -> Sequence[str]:
    label = grammar.leaf_label[node]
    if label is not None:
        return (label,)
    return [label for child in grammar.children[node].values() for label in _labels_under(grammar, child)]
