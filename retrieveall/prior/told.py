"""A taught mention that stands in a sentence speaks in the prior, too.

The prior learned from the training sentences alone, and where it is sure it would outvote what a user taught.
So a taught mention's tags get so much in log-odds. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from retrieveall.text.mentions import occurrences
from retrieveall.text.units import split_units, unit_borders
from retrieveall.types import BEGINS, INSIDE, EntityExample, UnitScores

TOLD_ODDS = 4.0
"""Natural log-odds for each tag of a taught mention where its surface stands, on top of what was learned."""


def with_told(scores: UnitScores, text: str, examples: Sequence[EntityExample]) -> UnitScores:
    """Returns what the prior says with the taught mentions among some examples, the longest first.

    Args:
        scores: Of the sentence.
        text: The sentence.
        examples: Strongest first; those that were not taught are passed over. Of a label that the prior
            does not know only the place counts.
    """
    told = sorted((one for one in examples if one.taught), key=lambda one: -len(one.mention))
    if not told:
        return scores
    firsts, ends = unit_borders(split_units(text))
    tags = scores.tags.copy()
    taken: set[int] = set()
    for example in told:
        of = [place for place, label in enumerate(scores.labels) if label == example.label]
        of = of or list(range(len(scores.labels)))
        for at in occurrences(text, example.mention):
            first, end = firsts.get(at), ends.get(at + len(example.mention))
            if first is not None and end is not None and taken.isdisjoint(range(first, end)):
                taken.update(range(first, end))
                tags[:, BEGINS][first, of] += TOLD_ODDS
                tags[:, INSIDE][first + 1 : end, of] += TOLD_ODDS
                tags[:, INSIDE][end : end + 1, of] -= TOLD_ODDS
    return replace(scores, tags=tags)
