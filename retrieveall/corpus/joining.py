"""From tokens to text, with the exact character range of every token.

Languages that write spaces: one space between any two tokens. Scripts that do not (Han, Kana,
Thai, Lao, Khmer, Myanmar, Tibetan): none, save between two tokens whose touching characters would
otherwise melt into one word (``iPhone`` ``Pro``, ``5`` ``10``). Corpora tokenised by characters
(as KLUE's Korean and Stockmark's Japanese): none at all. The script of the tokens decides, the
language code only where a sentence's script is silent. A token that is white space becomes that
white space and is no token. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import regex

from retrieveall.languages import writes_spaces
from retrieveall.text.units import UNSPACED_SCRIPTS
from retrieveall.types import Span

Joining = Literal["spaced", "unspaced", "characters"]
JoiningChoice = Literal["auto", "spaced", "unspaced", "characters"]

_UNSPACED = rf"[{UNSPACED_SCRIPTS}--\p{{Hangul}}]"  # Korean writes spaces
_WORD = rf"[[\p{{L}}\p{{N}}_]--{_UNSPACED}]"
_UNSPACED_LETTER = regex.compile(rf"[{_UNSPACED}&&\p{{L}}]", flags=regex.V1)
_SPACED_LETTER = regex.compile(rf"[\p{{L}}--{_UNSPACED}]", flags=regex.V1)
_ENDS_IN_WORD = regex.compile(rf"{_WORD}[\p{{M}}\u200c\u200d]*\Z", flags=regex.V1)
_BEGINS_WORD = regex.compile(rf"{_WORD}|[\p{{M}}\u200c\u200d]", flags=regex.V1)
_GRAPHEME = regex.compile(r"\X")
_LEAST_TOKENS = 10  # fewer one-character tokens than this prove nothing
_CHARACTER_SHARE = 0.99  # word tokenised corpora stay below 0.52 (UNER Chinese), character corpora reach 1.0


def is_character_tokenised(sentences: Iterable[Sequence[str]]) -> bool:
    """Returns whether a corpus has (nearly) only one-character tokens.

    Args:
        sentences: The tokens of each sentence of one file.
    """
    tokens = characters = 0
    for sentence in sentences:
        tokens += len(sentence)
        characters += sum(len(token) == 1 or _GRAPHEME.fullmatch(token) is not None for token in sentence)
    return tokens >= _LEAST_TOKENS and characters >= _CHARACTER_SHARE * tokens


def sentence_joining(tokens: Sequence[str], language: str) -> Joining:
    """Chooses between ``spaced`` and ``unspaced`` for one sentence.

    A language without spaces is joined without them wherever its script occurs or no letter says
    otherwise; any other language only where most letters are of a script without spaces.

    Args:
        tokens: T strings.
        language: A checked code.
    """
    text = "".join(tokens)
    unspaced = 0 if text.isascii() else len(_UNSPACED_LETTER.findall(text))
    if not _language_writes_spaces(language):
        return "unspaced" if unspaced or not _SPACED_LETTER.search(text) else "spaced"
    return "unspaced" if unspaced and unspaced > len(_SPACED_LETTER.findall(text)) else "spaced"


def join_tokens(tokens: Sequence[str], joining: Joining) -> tuple[str, list[Span | None]]:
    """Writes tokens as text.

    Args:
        tokens: T tokens; inner white space is kept, outer white space is not.
        joining: Where spaces go.

    Returns:
        The text, and T ranges in code points; None for a token that is only white space.
    """
    pieces: list[str] = []
    spans: list[Span | None] = []
    before, gap, length = "", "", 0
    for raw in tokens:
        token = raw.strip()
        if not token:
            gap += raw
            spans.append(None)
            continue
        gap = (gap or _gap(before, token, joining)) if pieces else ""
        pieces += (gap, token)
        start_char = length + len(gap)
        length = start_char + len(token)
        spans.append(Span(start_char=start_char, end_char=length))
        before, gap = token, ""
    return "".join(pieces), spans


def _gap(before: str, token: str, joining: Joining) -> str:
    if joining == "spaced":
        return " "
    melts = joining == "unspaced" and _ENDS_IN_WORD.search(before) and _BEGINS_WORD.match(token)
    return " " if melts else ""


@lru_cache(maxsize=256)
def _language_writes_spaces(language: str) -> bool:
    return writes_spaces(language)
