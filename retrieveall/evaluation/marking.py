"""Cuts a sentence into stretches of gold and found mentions, for a page to mark.

Every character of a shown sentence lands in exactly one stretch, in its order, whatever the
script and direction: the page wraps stretches and never moves or measures text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from retrieveall.evaluation.mistakes import Mistake

CONTEXT_CHARS = 140  # shown before and after the mentions of a very long sentence

# What has no glyph gets its control picture, so that a reader sees that something stands there;
# direction overrides become visible and can no longer reorder the page.
_VISIBLE = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_VISIBLE |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFFFE, 0xFFFF], 0xFFFD)
_VISIBLE |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of characters that is marked as a whole.

    Attributes:
        text: The characters, control characters made visible.
        gold: True inside the corpus's mention.
        found: True inside the tagger's mention.
    """

    text: str
    gold: bool
    found: bool


def stretches(mistake: Mistake, *, context_chars: int = CONTEXT_CHARS) -> list[Stretch]:
    """Returns the mistake's sentence cut at the borders of its mentions.

    Args:
        mistake: Sentence with its gold and found mention.
        context_chars: A longer sentence is shown this far around its mentions, with an ellipsis.
    """
    text = mistake.text
    mentions = [mention for mention in (mistake.gold, mistake.found) if mention]
    borders = [border for mention in mentions for border in (mention.start_char, mention.end_char)]
    first = max(0, min(borders, default=0) - context_chars)
    after = min(len(text), max(borders, default=0) + context_chars)
    cuts = sorted({first, *borders, after})
    cut = [
        Stretch(
            visible(text[start:end]),
            mistake.gold is not None and mistake.gold.start_char <= start < mistake.gold.end_char,
            mistake.found is not None and mistake.found.start_char <= start < mistake.found.end_char,
        )
        for start, end in pairwise(cuts)
    ]
    lead = [Stretch("…", False, False)] if first > 0 else []
    tail = [Stretch("…", False, False)] if after < len(text) else []
    return lead + cut + tail


def visible(text: str) -> str:
    """Returns ``text`` with control characters, direction overrides and lone surrogates replaced."""
    return text.translate(_VISIBLE)
