"""Hashed character n-grams of many texts at once, in numpy.

A text is lower-cased (unless its case is kept), brought to NFC, its white space folded; n-grams see the
border of a word as one space and never cross it. With c_j the mixed code points and p an odd constant,
S(i) = Σ_{j<i} c_j·p^j (mod 2^64), so the hash of any piece is (S(end) - S(start))·p^-start: one prefix sum
gives all n-grams of all lengths and all whole words. Source: own choice (polynomial hashing).
Axes: C characters, G n-grams.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
Positions = NDArray[np.int64]

_SPACE, _END = 0x20, 0x0A  # folding leaves no other white space, so a line feed can end a text
_P = 0x9E3779B97F4A7C15
_P_INVERSE = pow(_P, -1, 1 << 64)
_WORD_SALT = 1 << 20
_BATCH_CHARACTERS = 60_000  # keeps the arrays of one batch in the processor's cache
_BATCH_TEXTS = 2_000


def hashed_ngrams(
    texts: Sequence[str], lengths: Sequence[int], *, keep_case: bool = False
) -> tuple[U64, Positions]:
    """Hashes the n-grams and whole words of texts.

    Args:
        texts: N texts.
        lengths: Which n; 1 counts characters, 2 and more may hold one word border at each end.
        keep_case: Tell capitals from small letters.

    Returns:
        G hashes and, for each, the index of its text.
    """
    codes = np.frombuffer(_joined(texts, keep_case).encode("utf-32-le", "surrogatepass"), np.uint32)  # (C,)
    space, end = codes == _SPACE, codes == _END
    text_of = np.cumsum(end)
    pieces = [_ngram_starts(space, end, n) for n in lengths if n <= len(codes)]
    words = _words(space, end)
    starts = np.concatenate([*(p for p, _ in pieces), words[0]])
    ends = np.concatenate([*(p + n for p, n in pieces), words[1]])
    salts = np.concatenate([*(np.full(len(p), n) for p, n in pieces), np.full(len(words[0]), _WORD_SALT)])
    return _hash(codes, starts, ends, salts), text_of[starts]


def rehashed(hashes: U64, salt: int) -> U64:
    """Returns other hashes of the same things: those of two salts have nothing in common."""
    return _finish(hashes ^ np.uint64(salt * 0xD6E8FEB86659FD93 % (1 << 64)))


def text_batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yields half-open ranges of texts to hash at once, none longer than a batch unless one text is."""
    first, characters = 0, 0
    for index, text in enumerate(texts):
        if index > first and (characters + len(text) > _BATCH_CHARACTERS or index - first >= _BATCH_TEXTS):
            yield first, index
            first, characters = index, 0
        characters += len(text) + 3
    if first < len(texts):
        yield first, len(texts)


def fold(text: str, *, keep_case: bool = False) -> str:
    """Returns the text as n-grams see it: NFC, lower case unless it is kept, single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join((text if keep_case else text.lower()).split())


def _joined(texts: Sequence[str], keep_case: bool) -> str:
    return " " + " \n ".join(fold(text, keep_case=keep_case) for text in texts) + " "


def _ngram_starts(space: NDArray[np.bool_], end: NDArray[np.bool_], n: int) -> tuple[Positions, int]:
    """Where n-grams of one length start: inside one text, no space but at the borders, not only spaces."""
    count = len(space) - n + 1
    ends_before = np.concatenate([[0], np.cumsum(end)])
    good = ends_before[n:] == ends_before[:count]
    if n == 1:
        good &= ~space
    elif n == 2:
        good &= ~(space[:-1] & space[1:])
    else:
        spaces_before = np.concatenate([[0], np.cumsum(space)])
        good &= spaces_before[n - 1 : n - 1 + count] == spaces_before[1 : 1 + count]
    return np.flatnonzero(good), n


def _words(space: NDArray[np.bool_], end: NDArray[np.bool_]) -> tuple[Positions, Positions]:
    inside = np.concatenate([[False], ~(space | end), [False]])
    return np.flatnonzero(~inside[:-1] & inside[1:]), np.flatnonzero(inside[:-1] & ~inside[1:])


def _hash(codes: NDArray[np.uint32], starts: Positions, ends: Positions, salts: Positions) -> U64:
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(29)
    size = _table_size(len(codes))
    prefix = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(mixed * _powers(_P, size)[: len(codes)], out=prefix[1:])
    pieces = (prefix[ends] - prefix[starts]) * _powers(_P_INVERSE, size)[starts]
    return _finish(pieces + salts.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93))


def _finish(h: U64) -> U64:
    """Spreads the bits (the finaliser of splitmix64)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _table_size(characters: int) -> int:
    return max(1 << 16, 1 << characters.bit_length())


@lru_cache(maxsize=8)
def _powers(base: int, size: int) -> U64:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
