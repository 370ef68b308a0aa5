"""Names that a text repeats: where one was found, its other places in the text are mentions, too.

A tagger that reads sentence by sentence finds a name in one of them and misses it in the next. What is found
stays as it is; places are only added. Source: own choice; on runs of ten sentences of African news it brings
half a point (docs/results.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from retrieveall.text.mentions import occurrences
from retrieveall.text.units import split_units, unit_borders
from retrieveall.types import Entity

LEAST_SCORE = 0.5
"""Mentions below it are not looked for again."""
_LEAST_CHARACTERS = 2  # one character of a script without spaces stands in many words


def with_repeats(texts: Sequence[str], found: Sequence[Sequence[Entity]]) -> list[tuple[Entity, ...]]:
    """Returns the mentions of a text's S sentences, with those that repeat one of them.

    A place counts between unit borders and where no mention stands, the longest names first. It gets the
    label that the name's mentions have by the largest sum of scores, and the best of their scores with it.

    Args:
        texts: S sentences.
        found: The mentions of each, in order, by offsets in it.
    """
    names = _names(found)
    return [
        tuple(sorted((*some, *_repeats(text, names, some)), key=lambda entity: entity.start_char))
        for text, some in zip(texts, found, strict=True)
    ]


def _names(found: Sequence[Sequence[Entity]]) -> list[Entity]:
    """Returns one mention of each name, the longest first."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    best: dict[tuple[str, str], Entity] = {}
    for entity in (entity for some in found for entity in some):
        if entity.score < LEAST_SCORE or len(entity.text) < _LEAST_CHARACTERS:
            continue
        sums[entity.text][entity.label] += entity.score  # type: ignore[assignment]  # a float
        name = entity.text, entity.label
        best[name] = max(best.get(name, entity), entity, key=lambda one: one.score)
    return [best[text, sums[text].most_common(1)[0][0]] for text in sorted(sums, key=len, reverse=True)]


def _repeats(text: str, names: Sequence[Entity], found: Sequence[Entity]) -> Iterator[Entity]:
    there = [name for name in names if name.text in text]
    if not there:
        return
    firsts, ends = unit_borders(split_units(text))
    taken = {place for entity in found for place in range(entity.start_char, entity.end_char)}
    for name in there:
        for start in occurrences(text, name.text):
            end = start + len(name.text)
            if start in firsts and end in ends and taken.isdisjoint(range(start, end)):
                taken.update(range(start, end))
                yield replace(name, start_char=start, end_char=end)
