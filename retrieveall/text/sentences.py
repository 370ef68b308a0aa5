"""Sentence splitting that loses nothing: every non-space character stands in exactly one sentence.

The rules are those of `sentencex` (about 300 languages). The language is not known yet when a
document is split, routing comes after, so the English rules, which also know the full stops of
other scripts, are used unless a language is named.
"""

from __future__ import annotations

import sentencex

from retrieveall.errors import LoneSurrogateError
from retrieveall.types import Span


def check_text(text: str) -> None:
    """Refuses what is no Unicode text.

    Raises:
        LoneSurrogateError: A lone surrogate stands in the text.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LoneSurrogateError(
            f"Character {error.start} of the text is a lone surrogate (U+{ord(text[error.start]):04X}),"
            " which no Unicode text may hold. Decode the input as UTF-8, or replace such characters."
        ) from None


def split_sentences(text: str, *, language: str = "en") -> tuple[Span, ...]:
    """Returns the sentences of a text without the white space around them.

    Args:
        text: Any text; the empty one, and one of white space alone, has no sentence.
        language: Whose abbreviations and stops to use.

    Raises:
        LoneSurrogateError: The text holds a lone surrogate.
    """
    check_text(text)
    spans = []
    at = 0
    for segment in _segments(text, language):
        stripped = segment.strip()
        if stripped:
            start = at + segment.index(stripped)
            spans.append(Span(start_char=start, end_char=start + len(stripped)))
        at += len(segment)
    return tuple(spans)


def _segments(text: str, language: str) -> list[str]:
    """The library's segments, or the lines of the text should they ever not add up to it."""
    segments = list(sentencex.segment(language, text))
    return segments if "".join(segments) == text else text.splitlines(keepends=True)
