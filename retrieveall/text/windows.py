"""Windows over a sentence that is too long for one prompt, cut where a mention is least likely.

Source: own choice. Windows do not overlap: a mention is lost only when it crosses a cut, and cuts
prefer sentence stops, then other punctuation, then spaces.
"""

from __future__ import annotations

from collections.abc import Sequence

from retrieveall.prompting.codec import EncodedText
from retrieveall.types import Span

_STOPS = frozenset(".!?;:。！？；：\n")
_PUNCTUATION = frozenset(',、，()[]{}«»„“”"/|–—-')
_BYTES_PER_CHAR = 4  # of UTF-8, at most


def split_windows(text: str, encoded: EncodedText, *, max_tokens: int) -> tuple[Span, ...]:
    """Returns character ranges of at most ``max_tokens`` tokens each that cover all units.

    A single unit with more tokens than that (a long address, an encoded picture) is cut between
    characters, into pieces that fit with any tokenizer that needs at most one token per byte.

    Args:
        text: The sentence.
        encoded: The same sentence, encoded.
        max_tokens: Longest window, in tokens; positive.
    """
    sizes = [len(ids) for ids in encoded.unit_ids]
    windows = []
    first = 0
    while first < len(sizes):
        end = _last_fitting(sizes, first, max_tokens)
        if sizes[first] > max_tokens:
            windows += _pieces(encoded.units[first], max(1, (max_tokens - 1) // _BYTES_PER_CHAR))
            first += 1
            continue
        if end < len(sizes):
            end = _best_cut(text, encoded.units, first, end)
        units = encoded.units
        windows.append(Span(start_char=units[first].start_char, end_char=units[end - 1].end_char))
        first = end
    return tuple(windows)


def _pieces(unit: Span, size: int) -> list[Span]:
    starts = range(unit.start_char, unit.end_char, size)
    return [Span(start_char=at, end_char=min(at + size, unit.end_char)) for at in starts]


def _last_fitting(sizes: Sequence[int], first: int, max_tokens: int) -> int:
    """Returns the end, at least one unit on, of the longest run that fits."""
    total, end = 0, first
    while end < len(sizes) and (end == first or total + sizes[end] <= max_tokens):
        total += sizes[end]
        end += 1
    return end


def _best_cut(text: str, units: Sequence[Span], first: int, end: int) -> int:
    """Returns the best cut in the second half of a full window; of equal ones the last."""
    earliest = first + max(1, (end - first) // 2)
    return max(range(earliest, end + 1), key=lambda cut: (_cut_quality(text, units, cut), cut))


def _cut_quality(text: str, units: Sequence[Span], cut: int) -> int:
    """3 after a sentence stop, 2 after other punctuation, 1 before a space, else 0."""
    before = units[cut - 1]
    sign = text[before.start_char]
    if sign in _STOPS:
        return 3
    if sign in _PUNCTUATION:
        return 2
    return int(units[cut].start_char > before.end_char)
