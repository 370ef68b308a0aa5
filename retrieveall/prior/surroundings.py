"""What the prior sees around a unit: shapes beside it, its place in the sentence, the name it may be part of.

Source: own choice. Axes: U units of all sentences, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieveall.embedding.hashing import U64, rehashed

BORDER = np.uint64(3)  # a neighbour that is not there
_SHAPES = ((-1, 0), (0, 1), (-1, 0, 1), (-2, -1, 0), (0, 1, 2), (-2, -1, 0, 1, 2))
_MOST_PLACES, _MOST_UNITS = 4, 6  # more are as many
_SMALL_LETTERS = 3
_FIRST, _LAST, _PLACE, _NAME = 100, 101, 102, 200  # salts; shapes have those from 0

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


def neighbours(sentence: Places, offset: int) -> Places:
    """Returns the unit ``offset`` units behind each unit, -1 where its sentence has none ``(U,)``."""
    count = len(sentence)
    place = np.arange(count) + offset
    near = np.clip(place, 0, max(0, count - 1))
    return np.where((place == near) & (sentence[near] == sentence), near, -1) if count else place


def pairs(values: U64, sentence: Places, salt: int) -> U64:
    """Returns one hash for the values of each unit and of the one before it ``(U,)``."""
    return _together([_at(values, neighbours(sentence, -1)), values], salt)


def frames(whole: U64, shapes: U64, sentence: Places) -> U64:
    """Returns what stands around each unit, by its shape ``(U, 9)``.

    The shapes in a row up to two units away; the unit's own with the sentence's first word, with its last,
    and with how far both are.

    Args:
        whole: A hash of each unit's word.
        shapes: A hash of each unit's shape.
        sentence: Which sentence each unit belongs to.
    """
    first = np.searchsorted(sentence, sentence)
    last = np.searchsorted(sentence, sentence, side="right") - 1
    unit = np.arange(len(sentence))
    shape = {offset: _at(shapes, neighbours(sentence, offset)) for offset in _SHAPES[-1]}
    columns = [_together([shape[offset] for offset in offsets], salt) for salt, offsets in enumerate(_SHAPES)]
    columns += [_together([shapes, whole[first]], _FIRST), _together([shapes, whole[last]], _LAST)]
    far = [np.minimum(distance, _MOST_PLACES) for distance in (unit - first, last - unit)]
    columns.append(_together([shapes, *far], _PLACE))
    return np.stack(columns, axis=1)


def name_frames(words: Sequence[str], whole: U64, shapes: U64, sentence: Places) -> tuple[Places, U64]:
    """Returns what the name is like that a unit may be part of: a run of capitalised words and numbers.

    Single words of up to three small letters belong to it where it goes on behind them, as in *University of
    Leeds*. In scripts without capitals only numbers make runs.

    Args:
        words: U words.
        whole: A hash of each.
        shapes: A hash of each one's shape.
        sentence: Which sentence each unit belongs to.

    Returns:
        The N units inside such runs, and of each the run's first and last word, the words before and behind
        it, its size and what shapes it stands between ``(N, 6)``. All but the last tell units at its ends
        from others.
    """
    before, behind = neighbours(sentence, -1), neighbours(sentence, 1)
    tall = np.array([word[0].isupper() or word[0].isdigit() for word in words], bool)
    small = np.array([word[0].islower() and len(word) <= _SMALL_LETTERS for word in words], bool)
    inside = tall | (small & _flags_at(tall, before) & _flags_at(tall, behind))
    opens, closes = inside & ~_flags_at(inside, before), inside & ~_flags_at(inside, behind)
    unit = np.flatnonzero(inside)
    run = np.cumsum(opens)[unit] - 1
    first, last = np.flatnonzero(opens)[run], np.flatnonzero(closes)[run]
    at_first, at_last = opens[unit], closes[unit]
    size = np.minimum(last - first, _MOST_UNITS)
    columns = [
        (whole[first], at_first),
        (whole[last], at_last),
        (_at(whole, before[first]), at_first),
        (_at(whole, behind[last]), at_last),
        (size, at_first, at_last),
        (_at(shapes, before[first]), _at(shapes, behind[last]), size),
    ]
    return unit, np.stack([_together(parts, _NAME + number) for number, parts in enumerate(columns)], axis=1)


def _at(values: U64, places: Places) -> U64:
    """Returns the values at some places, `BORDER` at -1."""
    return np.where(places >= 0, values[places], BORDER)


def _flags_at(flags: Flags, places: Places) -> Flags:
    """Returns the flags at some places, False at -1."""
    return (places >= 0) & flags[places]


def _together(parts: Sequence[NDArray[np.generic]], salt: int) -> U64:
    """Returns one hash for what stands in the same place of some arrays; their order counts."""
    hashes = np.zeros(len(parts[0]), np.uint64)
    for part in parts:
        hashes = rehashed(hashes ^ part.astype(np.uint64), salt)
    return hashes
