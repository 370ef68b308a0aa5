"""Language codes: checking them, and what is known about a language's writing.

Codes are BCP-47 as PAN-X / WikiANN writes them: lower case with hyphens (``nl``, ``zh-hans``,
``be-x-old``). They become folder names, so every code passes ``check_language`` before it touches
a path. Likely scripts come from Unicode CLDR by way of Babel; the codes that Wikipedia
(and so WikiANN) uses outside BCP-47 are mapped by a small table of our own.
"""

from __future__ import annotations

import re
from typing import Final

from babel.core import get_global

from retrieveall.errors import InputError

POLYGLOT: Final = "mul"
"""The code of something made for several languages at once; never the language of a corpus."""

_CODE = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,9})*")  # nine, for Wikipedia's zh-classical
_MAX_CODE_CHARS = 35  # the buffer length that RFC 5646 section 4.4.1 recommends

_WIKIPEDIA_CODES: Final = {
    "als": "gsw",
    "bat-smg": "sgs",
    "be-x-old": "be",
    "cbk-zam": "cbk",
    "eml": "egl",
    "fiu-vro": "vro",
    "map-bms": "jv",
    "nds-nl": "nds",
    "no": "nb",
    "roa-rup": "rup",
    "simple": "en",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
    "zh-yue": "yue",
}
_UNSPACED: Final = frozenset(
    ("Hani", "Hans", "Hant", "Hira", "Hrkt", "Jpan", "Kana", "Khmr", "Laoo", "Mymr", "Thai", "Tibt")
)


def check_language(code: str) -> str:
    """Returns ``code`` in the spelling that names folders: lower case, hyphens.

    Args:
        code: A BCP-47 or PAN-X code such as ``nl``, ``zh-Hans``, ``zh_Hans`` or ``be-x-old``.

    Raises:
        InputError: ``code`` does not have the shape of a language code.
    """
    folded = code.replace("_", "-").lower() if isinstance(code, str) else ""
    if not folded.isascii() or len(folded) > _MAX_CODE_CHARS or not _CODE.fullmatch(folded):
        raise InputError(
            f"{code!r} is not a language code. Give a BCP-47 code as in PAN-X: letters, then subtags of"
            " letters and digits after hyphens, such as nl, sw, zh-hans or be-x-old."
        )
    return folded


def likely_script(code: str) -> str | None:
    """Returns the ISO 15924 code of the script a language is most likely written in, such as ``Latn``.

    A script subtag in the code decides; else CLDR's likely subtags; None where CLDR is silent.

    Raises:
        InputError: ``code`` does not have the shape of a language code.
    """
    language, *subtags = _standard(check_language(code)).split("-")
    written = [subtag.title() for subtag in subtags if len(subtag) == 4 and subtag.isalpha()]
    if written:
        return written[0]
    likely: dict[str, str] = dict(get_global("likely_subtags"))
    for key in ("_".join([language, *(tag.upper() for tag in subtags)]), language):
        if key in likely:
            return next((part for part in likely[key].split("_") if len(part) == 4), None)
    return None


def writes_spaces(code: str) -> bool:
    """Returns whether the language separates words by spaces; True when unknown.

    Korean does write spaces, although a mention may start at any Hangul syllable (text/units.py).

    Raises:
        InputError: ``code`` does not have the shape of a language code.
    """
    return likely_script(code) not in _UNSPACED


def _standard(code: str) -> str:
    return _WIKIPEDIA_CODES.get(code, code)
