"""What the prior sees of a unit: hashes of its letters, the whole word, its shape, and what stands around it.

Axes: U units of all sentences, one after the other; G features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

from retrieveall.embedding.hashing import U64, hashed_ngrams, rehashed, text_batches
from retrieveall.hashed_table import Counts, ranges
from retrieveall.prior.surroundings import BORDER, Places, frames, name_frames, neighbours, pairs
from retrieveall.text.units import UNSPACED_SCRIPTS
from retrieveall.types import Span

NEAR = 12  # units; words farther away say little, and a text so long may be no sentence
_LENGTHS = (1, 2, 3, 4, 5)
_RUN_LENGTHS = (2, 3)
_CASED, _PAIR, _RUN = 1, 2, 1000  # salts
_UNSPACED = regex.compile(rf"[{UNSPACED_SCRIPTS}]", flags=regex.V1)
_CACHED_SHAPES = 100_000


@dataclass(frozen=True, slots=True)
class Bags:
    """A bag of hashes for each of U units: those of unit i begin at ``starts[i]``, and are ``counts[i]``."""

    hashes: U64
    counts: Counts

    def of(self, units: Places) -> tuple[U64, Counts]:
        """Returns the hashes of some units, one unit after the other, and how many each has."""
        starts = np.cumsum(self.counts) - self.counts
        counts = self.counts[units]
        return self.hashes[ranges(starts[units], counts)], counts


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitFeatures:
    """The features of the units of some sentences.

    Attributes:
        sentence: Which sentence each unit belongs to ``(U,)``.
        full: Letters up to five in a row, the word with and without capitals, its shape, and with the shape
            whether the unit stands inside a written word.
        brief: The word without capitals, and its shape in the same way.
        pair: The word and the one before it.
        near: What `brief` has of the unit and of those up to `NEAR` away, each feature once.
        frame: What stands around the unit, by its shape.
        name: Of a unit in a run of capitalised words: what that run is like.
        runs: Of a character of a script without spaces: the runs of two or three units that hold it or
            touch it, each with its place.
    """

    sentence: Places
    full: Bags
    brief: Bags
    pair: Bags
    near: Bags
    frame: Bags
    name: Bags
    runs: Bags


def unit_features(texts: Sequence[str], units: Sequence[Sequence[Span]]) -> UnitFeatures:
    """Returns the features of the units of S sentences.

    Args:
        texts: S sentences.
        units: The units of each, in order.
    """
    words = [
        text[unit.start_char : unit.end_char]
        for text, some in zip(texts, units, strict=True)
        for unit in some
    ]
    sentence = np.repeat(np.arange(len(texts)), [len(some) for some in units])
    letters, letter_counts = _letters(words)
    whole = _hash_of([word.lower() for word in words])
    cased = rehashed(_hash_of(words), _CASED)
    joins = [join for text, some in zip(texts, units, strict=True) for join in _joins(text, some)]
    shapes = _hash_of([shape_of(word) + join for word, join in zip(words, joins, strict=True)])
    brief = _plain(np.stack([whole, shapes], axis=1))
    return UnitFeatures(
        sentence=sentence,
        full=_joined(letters, letter_counts, np.stack([whole, cased, shapes], axis=1)),
        brief=brief,
        pair=_plain(pairs(whole, sentence, _PAIR)[:, None]),
        near=_near(brief, sentence),
        frame=_plain(frames(whole, shapes, sentence)),
        name=_some(*name_frames(words, whole, shapes, sentence), len(words)),
        runs=_runs(whole, np.array([_UNSPACED.match(word) is not None for word in words], bool), sentence),
    )


@lru_cache(maxsize=_CACHED_SHAPES)
def shape_of(word: str) -> str:
    """Returns the shape of a word: letters become X, x or c, digits d; runs are cut to two: ``Xxx-dd``."""
    shape = ""
    for letter in word:
        kind = letter
        if letter.isalpha():
            kind = "X" if letter.isupper() else "x" if letter.islower() else "c"
        elif letter.isdigit():
            kind = "d"
        if not shape.endswith(2 * kind):
            shape += kind
    return shape


def _joins(text: str, units: Sequence[Span]) -> Iterator[str]:
    """Yields what tells units inside a written word from others: ``~``, or nothing.

    Inside are words and other units that stand between words without a blank, as both in *O'Brien*, and the
    words behind them; not the comma of *Paris, France* or what stands in brackets or quotation marks, which
    corpora write apart and people do not.
    """
    is_word = [text[unit.start_char].isalnum() for unit in units]
    behind = [False] + [one.end_char == other.start_char for one, other in pairwise(units)]
    for place in range(len(units)):
        if is_word[place]:
            before = place - 1 if behind[place] and is_word[place - 1] else place - 2
            is_inside = behind[place] and before >= 0 and is_word[before] and all(behind[before + 1 : place])
        else:
            after = place + 1
            is_inside = (
                behind[place]
                and is_word[place - 1]
                and after < len(units)
                and behind[after]
                and is_word[after]
            )
        yield "~" if is_inside else ""


def border(salt: int) -> U64:
    """Returns the feature of a neighbour that is not there ``(1,)``."""
    return rehashed(np.array([BORDER]), salt)


def _letters(words: Sequence[str]) -> tuple[U64, Counts]:
    """Returns the n-grams of words, word by word, and how many each has."""
    hashes, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for first, last in text_batches(words):
        found, word_of = hashed_ngrams(words[first:last], _LENGTHS)
        hashes.append(found[np.argsort(word_of, kind="stable")])
        counts.append(np.bincount(word_of, minlength=last - first))
    return np.concatenate(hashes), np.concatenate(counts)


def _hash_of(words: Sequence[str]) -> U64:
    """Returns one hash for each word."""
    return np.array([_word_hash(word) for word in words], np.uint64)


@lru_cache(maxsize=_CACHED_SHAPES)
def _word_hash(word: str) -> int:
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _plain(hashes_UF: U64) -> Bags:
    return Bags(hashes_UF.reshape(-1), np.full(len(hashes_UF), hashes_UF.shape[1], np.int64))


def _some(units: Places, hashes_NF: U64, count: int) -> Bags:
    """Returns bags for ``count`` units of which only some, in order, have any."""
    width = hashes_NF.shape[1]
    return Bags(hashes_NF.reshape(-1), np.bincount(units, minlength=count) * width)


def _near(bags: Bags, sentence: Places) -> Bags:
    """Returns the features of each unit and those around it, each once."""
    around_OU = np.stack([neighbours(sentence, offset) for offset in range(-NEAR, NEAR + 1)])
    offset, unit = np.nonzero(around_OU >= 0)
    hashes, counts = bags.of(around_OU[offset, unit])
    of = np.repeat(unit, counts)
    order = np.lexsort((hashes, of))
    hashes, of = hashes[order], of[order]
    is_new = np.ones(len(of), bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (of[1:] != of[:-1])
    return Bags(hashes[is_new], np.bincount(of[is_new], minlength=len(sentence)))


def _runs(whole: U64, unspaced: NDArray[np.bool_], sentence: Places) -> Bags:
    """Returns the runs of units around each of some units; a run stays inside its sentence."""
    unit = np.flatnonzero(unspaced)
    hashes, units = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    runs = whole
    for length in _RUN_LENGTHS:
        runs = rehashed(rehashed(runs[:-1], length) ^ whole[length - 1 :], length)
        for start in range(-length, 2):
            first, last = unit + start, unit + start + length - 1
            inside = (first >= 0) & (last < len(whole))
            inside[inside] = (sentence[first[inside]] == sentence[unit[inside]]) & (
                sentence[last[inside]] == sentence[unit[inside]]
            )
            hashes.append(rehashed(runs[first[inside]], _RUN + 10 * length + start))
            units.append(unit[inside])
    of = np.concatenate(units)
    order = np.argsort(of, kind="stable")
    return Bags(np.concatenate(hashes)[order], np.bincount(of, minlength=len(whole)))


def _joined(hashes: U64, counts: Counts, more_UF: U64) -> Bags:
    """Puts more hashes behind those of each unit."""
    added = more_UF.shape[1]
    total = counts + added
    starts = np.cumsum(total) - total
    joined = np.empty(int(total.sum()), np.uint64)
    joined[ranges(starts, counts)] = hashes
    joined[(starts + counts)[:, None] + np.arange(added)] = more_UF
    return Bags(joined, total)
