"""Which pieces of a sentence are looked up in the entity index: never its gold mentions.

Two kinds: every short run of units for the exact look-up, which is cheap, and a few name-like runs
for the vector search, which is not. Training and tagging use the same. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from retrieveall.text.units import split_units
from retrieveall.types import Span

MAX_UNITS = 8
"""Longest run that is looked up: 99 % of PAN-X mentions have no more units."""

_MAX_CONNECTORS = 2
_CONNECTOR_CHARS = 3
_JOINERS = frozenset("-'’.&/·・")


def candidate_spans(
    text: str, units: Sequence[Span] | None = None, *, max_units: int = MAX_UNITS
) -> list[Span]:
    """Returns every run of up to ``max_units`` units that starts with a letter or digit.

    Args:
        text: A sentence.
        units: Its units, when the caller has them already.
        max_units: Units of the longest run.
    """
    units = split_units(text) if units is None else units
    spans = []
    for first, unit in enumerate(units):
        if text[unit.start_char].isalnum():
            start = unit.start_char
            spans += [Span(start_char=start, end_char=u.end_char) for u in units[first : first + max_units]]
    return spans


def name_runs(text: str, units: Sequence[Span], *, at_most: int, taken: Collection[Span] = ()) -> list[Span]:
    """Returns the runs worth a vector search, longest first, ``at_most`` of them.

    In text with capitals: longest runs of capitalised units, with short lower-case words or joining
    punctuation between them. In text without (scripts without case, lower-cased input): runs of two
    to four units, spread evenly over the sentence.

    Args:
        text: A sentence.
        units: Its units.
        at_most: Most runs returned.
        taken: Spans that the exact look-up found: runs inside them are left out.
    """
    if at_most <= 0:
        return []
    cased = any(text[unit.start_char].isupper() for unit in units)
    runs = _capitalised_runs(text, units) if cased else _windows(text, units)
    free = [run for run in runs if not any(_inside(run, span) for span in taken)]
    if cased:
        free.sort(key=lambda run: (run.start_char - run.end_char, run.start_char))
        return free[:at_most]
    step = max(1, -(-len(free) // at_most))
    return free[::step]


def _inside(run: Span, span: Span) -> bool:
    return span.start_char <= run.start_char and run.end_char <= span.end_char


def _capitalised_runs(text: str, units: Sequence[Span]) -> list[Span]:
    runs: list[tuple[int, int]] = []  # first and last unit
    for index, unit in enumerate(units):
        if not (
            text[unit.start_char].isupper() or (runs and _continues_number(text, unit, runs[-1][1], index))
        ):
            continue
        if runs and _joined(text, units[runs[-1][1] + 1 : index]) and index - runs[-1][0] < MAX_UNITS:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return [Span(start_char=units[a].start_char, end_char=units[b].end_char) for a, b in runs]


def _continues_number(text: str, unit: Span, last: int, index: int) -> bool:
    return last == index - 1 and text[unit.start_char].isdigit()


def _joined(text: str, between: Sequence[Span]) -> bool:
    """Whether the units between two capitalised ones may belong to one name."""
    return len(between) <= _MAX_CONNECTORS and all(
        piece in _JOINERS or (piece.isalpha() and len(piece) <= _CONNECTOR_CHARS)
        for piece in (text[unit.start_char : unit.end_char] for unit in between)
    )


def _windows(text: str, units: Sequence[Span]) -> list[Span]:
    return [
        Span(start_char=unit.start_char, end_char=units[first + length - 1].end_char)
        for first, unit in enumerate(units)
        if text[unit.start_char].isalnum()
        for length in (2, 3, 4)
        if first + length <= len(units) and text[units[first + length - 1].start_char].isalnum()
    ]
