"""64-bit keys that decide equality: of sentences (exclude_self) and of mentions (look-up).

White space is folded away altogether, so that a corpus's tokenised text and the same sentence as
prose have one key. Source: own choice (METHOD asks for NFC and white-space folding).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def sentence_key(text: str) -> int:
    """Returns the key of a sentence: NFC, without white space, case kept."""
    return _key(squeeze(text if text.isascii() else unicodedata.normalize("NFC", text)))


def surface_key(surface: str) -> int:
    """Returns the key of a mention's surface: NFKC, case folded, without white space."""
    if surface.isascii():
        return _key(squeeze(surface.lower()))
    return _key(squeeze(unicodedata.normalize("NFKC", surface).casefold()))


def surface_keys(surfaces: Iterable[str]) -> Keys:
    """Returns the keys of many surfaces."""
    return np.fromiter(map(surface_key, surfaces), np.uint64)


def sentence_keys(texts: Iterable[str]) -> Keys:
    """Returns the keys of many sentences."""
    return np.fromiter(map(sentence_key, texts), np.uint64)


def squeeze(text: str) -> str:
    """Returns the text without any white space."""
    return "".join(text.split())


def _key(folded: str) -> int:
    return int.from_bytes(blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
