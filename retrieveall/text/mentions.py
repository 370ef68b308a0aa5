"""The mention rule: how a mention's characters find their place in the text.

A mention stands for its next occurrence after the previous mention's end that starts and ends on a
unit border (a word border; in scripts without spaces any character). Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from retrieveall.text.units import split_units
from retrieveall.types import GoldEntity


def first_inexpressible(text: str, entities: Sequence[GoldEntity]) -> GoldEntity | None:
    """Returns the first mention that the rule would put elsewhere or nowhere, None when all are fine.

    Args:
        text: A sentence.
        entities: Its mentions in order of appearance.
    """
    return next(inexpressible(text, entities), None)


def inexpressible(text: str, entities: Sequence[GoldEntity]) -> Iterator[GoldEntity]:
    """Yields every mention that the rule would put elsewhere or nowhere, each judged by itself.

    Args:
        text: A sentence.
        entities: Its mentions in order of appearance.
    """
    units = split_units(text)
    starts = {unit.start_char for unit in units}
    ends = {unit.end_char for unit in units}
    cursor = 0
    for entity in entities:
        surface = text[entity.start_char : entity.end_char]
        place = text.find(surface, cursor) if surface else -1
        while place != -1 and not (place in starts and place + len(surface) in ends):
            place = text.find(surface, place + 1)
        if place != entity.start_char:
            yield entity
        cursor = entity.end_char


def occurrences(text: str, mention: str) -> list[int]:
    """Returns all characters at which a mention stands in a text; none for an empty one."""
    starts = []
    at = text.find(mention)
    while at >= 0 and mention:
        starts.append(at)
        at = text.find(mention, at + 1)
    return starts
