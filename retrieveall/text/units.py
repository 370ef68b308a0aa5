"""Units: the smallest pieces at which a mention may start or end.

In scripts that write spaces a unit is a word (letters, digits and their marks) or one punctuation
character; in scripts without spaces, and in Hangul where particles hang on the noun, it is one
character with its marks. Prompts are tokenised unit by unit, so a mention's tokens are a run of
the sentence's own tokens, and text that looks like one of our markers cannot become one.
Source: own choice (the papers do not say how mentions are matched back to the text).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import regex

from retrieveall.types import Span

UNSPACED_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Hangul}"
"""Character classes of the scripts in which one character is a unit."""

_UNIT = regex.compile(
    rf"[{UNSPACED_SCRIPTS}--\p{{M}}]\p{{M}}*"  # one character of a script without spaces
    rf"|(?:[[\p{{L}}\p{{N}}_]--[{UNSPACED_SCRIPTS}]][\p{{M}}\u200c\u200d]*)+"  # a word
    r"|[^\s]\p{M}*",  # any other visible character
    flags=regex.V1,
)


def split_units(text: str) -> tuple[Span, ...]:
    """Returns the units of ``text`` in order; together they cover every non-space character.

    Args:
        text: Any string; lone combining marks and control characters become units of their own.
    """
    return tuple(Span(start_char=m.start(), end_char=m.end()) for m in _UNIT.finditer(text))


def unit_borders(units: Sequence[Span]) -> tuple[dict[int, int], dict[int, int]]:
    """Returns which unit begins at a character, and behind which units one ends, as half-open ranges count.

    A range of characters is the units from ``first[start_char]`` to before ``end[end_char]``.
    """
    first = {unit.start_char: index for index, unit in enumerate(units)}
    end = {unit.end_char: index + 1 for index, unit in enumerate(units)}
    return first, end


def cut_units(units: Sequence[Span], edges: Collection[int]) -> tuple[Span, ...]:
    """Returns the units, those parted that an edge falls into.

    Args:
        units: U units.
        edges: Character offsets at which something starts or ends, such as entities.
    """
    pieces = []
    for unit in units:
        start_char = unit.start_char
        for edge in sorted(edge for edge in edges if unit.start_char < edge < unit.end_char):
            pieces.append(Span(start_char=start_char, end_char=edge))
            start_char = edge
        pieces.append(Span(start_char=start_char, end_char=unit.end_char))
    return tuple(pieces)


def unit_pieces(text: str, units: tuple[Span, ...]) -> list[str]:
    """Returns one string per unit, as it is tokenised: with one leading space where one stood.

    The first unit always gets the space, so that a word at the start of a sentence has the same
    tokens as inside it.

    Args:
        text: The text that the units were split from.
        units: U units.

    Returns:
        U strings.
    """
    pieces = []
    previous_end = -1
    for unit in units:
        glued = unit.start_char == previous_end
        pieces.append(("" if glued else " ") + text[unit.start_char : unit.end_char])
        previous_end = unit.end_char
    return pieces
