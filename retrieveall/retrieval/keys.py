"""64-bit keys that decide equality: of sentences (exclude_self) and of mentions (look-up).

White space is folded to one space between letters and digits and to nothing beside punctuation, so
that a corpus's tokenised text and the same sentence as prose have one key (``Saint - Denis``,
``Saint-Denis``) but ``to go`` is not ``Togo``. Source: own choice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_BESIDE_PUNCTUATION = re.compile(r"(?<!\w) | (?!\w)")


def sentence_key(text: str) -> int:
    """Returns the key of a sentence: NFC, white space folded, case kept."""
    return _key(fold_space(text if text.isascii() else unicodedata.normalize("NFC", text)))


def surface_key(surface: str) -> int:
    """Returns the key of a mention's surface: NFKC, case and white space folded."""
    if surface.isascii():
        return _key(fold_space(surface.lower()))
    return _key(fold_space(unicodedata.normalize("NFKC", surface).casefold()))


def surface_keys(surfaces: Iterable[str]) -> Keys:
    """Returns the keys of many surfaces."""
    return np.fromiter(map(surface_key, surfaces), np.uint64)


def sentence_keys(texts: Iterable[str]) -> Keys:
    """Returns the keys of many sentences."""
    return np.fromiter(map(sentence_key, texts), np.uint64)


def fold_space(text: str) -> str:
    """Returns the text with its white space folded: one space between words, none beside punctuation."""
    words = text.split()
    return words[0] if len(words) == 1 else _BESIDE_PUNCTUATION.sub("", " ".join(words))


def _key(folded: str) -> int:
    return int.from_bytes(blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
