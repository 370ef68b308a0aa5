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

import numpy as np

from retrieveall.engine.automaton import NOWHERE, LabelGrammar, Reading, TagLineAutomaton
from retrieveall.types import UnitScores

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
        self._scores = scores
        self._starts: list[float] = _sigmoid(scores.start).tolist()
        self._labels: dict[tuple[int, int], dict[str, float]] = {}

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
        weight = self._scores.weight
        return [weight * math.log(max(chance / total, _LEAST)) for chance in chances.values()]

    def _between(self, automaton: TagLineAutomaton, reading: Reading, chances: dict[int, float]) -> None:
        tokens, none_yet = automaton.tokens, 1.0
        for unit in range(reading.cursor, len(self._starts)):
            starts = self._starts[unit]
            chances[tokens.ids[tokens.first_token[unit]]] += none_yet * starts
            none_yet *= 1.0 - starts
        chances[automaton.end_id] += none_yet

    def _in_mention(self, automaton: TagLineAutomaton, reading: Reading, chances: dict[int, float]) -> None:
        tokens, place = automaton.tokens, reading.position
        end_unit = tokens.unit[place] + 1
        goes_on = self._goes_on(reading.first_unit, end_unit) if tokens.is_last[place] else 1.0
        if place + 1 < len(tokens.ids):
            chances[tokens.ids[place + 1]] += goes_on
        if tokens.is_last[place]:
            self._markers(automaton.grammar, 0, reading.first_unit, end_unit, 1.0 - goes_on, chances)

    def _in_marker(self, automaton: TagLineAutomaton, reading: Reading, chances: dict[int, float]) -> None:
        end_unit = automaton.tokens.unit[reading.position] + 1
        self._markers(automaton.grammar, reading.node, reading.first_unit, end_unit, 1.0, chances)

    def _markers(
        self,
        grammar: LabelGrammar,
        node: int,
        first_unit: int,
        end_unit: int,
        chance: float,
        chances: dict[int, float],
    ) -> None:
        """Shares a chance among the tokens that follow a node of the markers' tree."""
        children = grammar.children[node]
        if len(children) == 1:
            chances[next(iter(children))] += chance
            return
        of_label = self._label_chances(first_unit, end_unit)
        for token, child in children.items():
            chances[token] += chance * sum(
                of_label.get(label, 0.0) for label in _labels_under(grammar, child)
            )

    def _goes_on(self, first_unit: int, unit: int) -> float:
        """The chance that a mention from `first_unit` to before `unit` goes on to it."""
        scores = self._scores
        if unit >= len(scores.go):
            return 0.0
        length = min(unit - first_unit, len(scores.go_length))
        odds = scores.go[unit] + scores.go_first[first_unit] + scores.go_length[length - 1]
        return float(_sigmoid(odds))

    def _label_chances(self, first_unit: int, end_unit: int) -> dict[str, float]:
        """The chance of each label of a mention."""
        span = first_unit, end_unit
        if span not in self._labels:
            scores = self._scores
            length = min(end_unit - first_unit, len(scores.length))
            logits_L = (
                scores.opens[first_unit]
                + scores.closes[end_unit - 1]
                + scores.inside[end_unit]
                - scores.inside[first_unit]
                + scores.pairs[end_unit]
                - scores.pairs[first_unit + 1]
                + scores.around
                + scores.length[length - 1]
            )
            shares_L = np.exp(logits_L - logits_L.max())
            self._labels[span] = dict(zip(scores.labels, (shares_L / shares_L.sum()).tolist(), strict=True))
        return self._labels[span]


def _labels_under(grammar: LabelGrammar, node: int) -> Sequence[str]:
    label = grammar.leaf_label[node]
    if label is not None:
        return (label,)
    return [label for child in grammar.children[node].values() for label in _labels_under(grammar, child)]


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    shares: np.ndarray = 1.0 / (1.0 + np.exp(-odds.astype(np.float64)))
    return shares
