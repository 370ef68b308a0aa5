"""When two sentences count as the same: after NFC and white-space folding."""

from __future__ import annotations

import unicodedata


def fold_text(text: str) -> str:
    """Returns ``text`` in NFC with every run of white space as one space and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())
