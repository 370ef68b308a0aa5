"""Tag schemes: from one tag per token to runs of tokens.

Schemes: ``iob2`` (B- opens every entity), ``iob1`` (B- only between two adjacent entities of one
type), ``bioes`` (also written BILOU and BMES) and ``io`` (bare types; never guessed, because a
part-of-speech column would look the same). Strict reading is the default: a tag that its scheme
forbids is an error, since it mostly means a lost line. ``repair`` reads it as conlleval does: a
continuation without a beginning begins an entity. Source: own choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Scheme = Literal["iob1", "iob2", "bioes", "io"]
SchemeChoice = Literal["auto", "iob1", "iob2", "bioes", "io"]

_TAG = re.compile(r"([BIESULM])-(.+)", re.DOTALL)
_OUTSIDE = "O"
_BIOES, _BILOU = frozenset("ES"), frozenset("UL")  # marks that only one of the two has
_SAME_MEANING = {"U": "S", "L": "E", "M": "I"}  # BILOU and BMES written as BIOES


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class TokenRun:
    """An entity as a half-open range of token numbers."""

    first: int
    end: int
    label: str


class TagError(ValueError):
    """A tag that its scheme does not allow; ``index`` is the token's number in the sentence."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(index, message)
        self.index = index
        self.message = message


def is_tag(text: str) -> bool:
    """Returns whether ``text`` is ``O`` or has the shape prefix-hyphen-type."""
    return text == _OUTSIDE or _TAG.fullmatch(text) is not None


def detect_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """Finds the scheme of a whole file from its tags; ``iob2`` when nothing says otherwise.

    Args:
        sentences: The tags of each sentence.
    """
    prefixes: set[str] = set()
    bare_starts = free_beginnings = 0
    for tags in sentences:
        before = ("", "")
        for tag in tags:
            prefix, label = _split(tag)
            prefixes.add(prefix)
            continues = before[0] in ("B", "I") and before[1] == label
            bare_starts += prefix == "I" and not continues
            free_beginnings += prefix == "B" and not continues
            before = (prefix, label)
    if prefixes & {"E", "S", "U", "L", "M"}:
        return "bioes"
    return "iob1" if bare_starts and not free_beginnings else "iob2"


def stray_marks(sentences: Iterable[Sequence[str]]) -> frozenset[str]:
    """Finds the marks that do not fit a file which mixes BIOES and BILOU.

    Args:
        sentences: The tags of each sentence.

    Returns:
        The marks of the scheme that fewer sentences use, BILOU's if as many do; empty without a mix.
    """
    bioes = bilou = 0
    for tags in sentences:
        prefixes = {_split(tag)[0] for tag in tags}
        bioes += not prefixes.isdisjoint(_BIOES)
        bilou += not prefixes.isdisjoint(_BILOU)
    if not bioes or not bilou:
        return frozenset()
    return _BILOU if bioes >= bilou else _BIOES


def check_marks(tags: Sequence[str], stray: frozenset[str]) -> None:
    """Checks that the tags of one sentence are of the scheme that most of its file has.

    Args:
        tags: T tags, one per token.
        stray: What `stray_marks` found in the file.

    Raises:
        TagError: A tag is of the other scheme.
    """
    for index, tag in enumerate(tags):
        if stray and _split(tag)[0] in stray:
            here, most = ("BILOU", "BIOES") if stray == _BILOU else ("BIOES", "BILOU")
            raise TagError(
                index, f"{tag} is {here}, most tags of the file are {most}; --scheme bioes reads both"
            )


def decode_tags(tags: Sequence[str], scheme: Scheme, *, repair: bool = False) -> tuple[list[TokenRun], int]:
    """Turns the tags of one sentence into entities.

    Args:
        tags: T tags, one per token.
        scheme: How they are written.
        repair: Read forbidden tags as conlleval does, and count them.

    Returns:
        The entities in order and the number of repairs.

    Raises:
        TagError: A tag is unknown, or forbidden in its place and ``repair`` is off.
    """
    reader = _TagReader(scheme, repair)
    for index, tag in enumerate(tags):
        reader.feed(index, tag)
    reader.close(len(tags), complete=scheme != "bioes")
    return reader.runs, reader.repairs


class _TagReader:
    def __init__(self, scheme: Scheme, repair: bool) -> None:
        self.scheme, self.repair = scheme, repair
        self.runs: list[TokenRun] = []
        self.repairs = 0
        self._first = -1  # of the open entity; -1 when none is open
        self._label = ""

    def feed(self, index: int, tag: str) -> None:
        if tag == _OUTSIDE:
            self.close(index, complete=self.scheme != "bioes")
            return
        prefix, label = self._read(index, tag)
        continues = self._first >= 0 and label == self._label and prefix in ("I", "E")
        if not continues:
            self.close(index, complete=self.scheme != "bioes")
            if prefix in ("I", "E") and self.scheme in ("iob2", "bioes"):
                self._forbidden(index, f"{tag} continues an entity that no B-{label} has begun")
            self._first, self._label = index, label
        if prefix in ("E", "S"):
            self.close(index + 1, complete=True)

    def close(self, end: int, *, complete: bool) -> None:
        if self._first < 0:
            return
        if not complete:
            self._forbidden(end - 1, f"the {self._label} entity is not ended by E- or L- before this place")
        self.runs.append(TokenRun(first=self._first, end=end, label=self._label))
        self._first = -1

    def _read(self, index: int, tag: str) -> tuple[str, str]:
        if self.scheme == "io":
            return "I", tag
        prefix, label = _split(tag)
        prefix = _SAME_MEANING.get(prefix, prefix)
        if not label or (prefix in ("E", "S") and self.scheme != "bioes"):
            raise TagError(index, f"{tag!r} is no tag of the scheme {self.scheme}, such as O or B-TYPE")
        return prefix, label

    def _forbidden(self, index: int, message: str) -> None:
        if not self.repair:
            raise TagError(
                index, f"{message} (scheme {self.scheme}; --repair-tags reads it as conlleval does)"
            )
        self.repairs += 1


def _split(tag: str) -> tuple[str, str]:
    match = _TAG.fullmatch(tag)
    return (match[1], match[2]) if match else ("", "")
