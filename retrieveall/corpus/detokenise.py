"""Detokenising: from ``Paris , France .`` to ``Paris, France.``, offsets kept.

Sacremoses (the Moses detokeniser) decides where spaces go; characters are never changed. It sees
stand-ins for marks it does not know (guillemets, curly quotes, dandas, Arabic punctuation, the
English ``n't``), of equal length, so that its rules for the marks it knows apply. Where it fails,
or would change a character, or would melt an entity's edge into a word, the sentence's own spaces
stay. Sentences of scripts without spaces, and text that is prose already, come back as they are.
Source: own choice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import regex

from retrieveall.types import GoldEntity, Sentence, Span

if TYPE_CHECKING:
    from sacremoses import MosesDetokenizer

_CLOSING: Final = dict.fromkeys("।॥۔؟،؛…፡።፣፤", ".")
_QUOTES: Final = {"”": "“", "»": '"', "«": '"', "’": "'", "‘": "'", "‚": "'"}
_GUILLEMETS: Final = ("«", "»")
_SPACED_QUOTES: Final = {"fr"}  # « French » keeps its inner spaces
_APOSTROPHES: Final = str.maketrans("’ʼ", "''")
_FIRST_CJK: Final = "\u1100"  # Moses joins characters from here on
_WORD_CHAR: Final = regex.compile(r"[\p{L}\p{N}\p{M}_]")
_NEGATION: Final = regex.compile(r"n['’]t", regex.IGNORECASE)


def detokenise(sentence: Sentence) -> Sentence:
    """Returns the sentence as people write it: same characters, fewer spaces, offsets moved along.

    Only text that is its tokens joined by single spaces is changed, so detokenising is idempotent
    on prose. Entities keep their characters up to white space.

    Args:
        sentence: Any sentence; its id, labels and split stay.
    """
    if len(sentence.tokens) < 2 or not _is_spaced(sentence):
        return sentence
    tokens = [sentence.text[token.start_char : token.end_char] for token in sentence.tokens]
    if all(map(_is_plain_word, tokens)):
        return sentence  # no rule of Moses moves them; a third of PAN-X is of this kind
    glued = _glued(tokens, sentence.language.partition("-")[0])
    glued = _without_melting(glued, tokens, sentence)
    return _respaced(sentence, glued) if any(glued) else sentence


def _is_plain_word(token: str) -> bool:
    return token[0].isalnum() and token[-1].isalnum() and token[0] < _FIRST_CJK


def _is_spaced(sentence: Sentence) -> bool:
    tokens = sentence.tokens
    if tokens[0].start_char != 0 or tokens[-1].end_char != len(sentence.text):
        return False
    return all(
        after.start_char == before.end_char + 1 and sentence.text[before.end_char] == " "
        for before, after in pairwise(tokens)
    )


def _glued(tokens: list[str], language: str) -> list[bool]:
    """Says for each of the T tokens whether it stands right behind the one before it."""
    stand_ins = [_stand_in(token, language) for token in tokens]
    for known in (language, "en"):  # some of its language rules fail on rare input: English is the plainest
        try:
            written = _moses(known).detokenize(stand_ins, unescape=False)
        except (TypeError, IndexError):
            continue
        if written.replace(" ", "") == "".join(stand_ins):
            return _spaceless(written, stand_ins)
    return [False] * len(tokens)


def _spaceless(written: str, stand_ins: list[str]) -> list[bool]:
    glued, position = [], 0
    for index, token in enumerate(stand_ins):
        spaced = written[position] == " "
        glued.append(index > 0 and not spaced)
        position += spaced
        for _ in token:  # Moses may also part a token's own characters: skip those spaces
            position += written[position] == " "
            position += 1
    return glued


def _stand_in(token: str, language: str) -> str:
    if len(token) == 1 and token in _CLOSING:
        return _CLOSING[token]
    if token in _QUOTES and not (language in _SPACED_QUOTES and token in _GUILLEMETS):
        return _QUOTES[token]
    if language == "en" and _NEGATION.fullmatch(token):
        return "'nt"
    return "".join(token.translate(_APOSTROPHES).split())


def _without_melting(glued: list[bool], tokens: list[str], sentence: Sentence) -> list[bool]:
    """Takes back the glue that would put an entity's edge inside a word, where no mention may end."""
    starts = {entity.start_char for entity in sentence.entities}
    ends = {entity.end_char for entity in sentence.entities}
    kept = list(glued)
    for index in range(1, len(tokens)):
        edge = sentence.tokens[index].start_char in starts or sentence.tokens[index - 1].end_char in ends
        melts = _WORD_CHAR.match(tokens[index - 1][-1]) and _WORD_CHAR.match(tokens[index][0])
        kept[index] = glued[index] and not (edge and melts)
    return kept


def _respaced(sentence: Sentence, glued: list[bool]) -> Sentence:
    pieces: list[str] = []
    tokens: list[Span] = []
    length = 0
    moved: dict[int, int] = {}  # old offset to new, at token edges
    for token, without_space in zip(sentence.tokens, glued, strict=True):
        gap = "" if without_space or not pieces else " "
        piece = sentence.text[token.start_char : token.end_char]
        start_char = length + len(gap)
        length = start_char + len(piece)
        pieces += (gap, piece)
        tokens.append(Span(start_char=start_char, end_char=length))
        moved[token.start_char], moved[token.end_char] = start_char, length
    entities = tuple(
        GoldEntity(start_char=moved[e.start_char], end_char=moved[e.end_char], label=e.label)
        for e in sentence.entities
    )
    return replace(sentence, text="".join(pieces), tokens=tuple(tokens), entities=entities)


@lru_cache(maxsize=64)
def _moses(language: str) -> MosesDetokenizer:
    # here, because compiling its rules takes half a second that most processes never need
    from sacremoses import MosesDetokenizer

    return MosesDetokenizer(lang=language)
