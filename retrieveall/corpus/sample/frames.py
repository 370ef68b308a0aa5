"""Frames and names: what a sample data file is made of, and how one becomes text.

A frame is prose with slots: ``{PER}`` takes a name of that type, ``{PER:gen}`` its form in that
case, ``{PER#1}`` … ``{PER#1}`` the same name twice (``{PER:gen#1}`` and ``{PER#1:gen}`` mean the
same); two slots of one type without ``#`` take different names. A slot in lower case, ``{day}``,
takes an ordinary word from the file's ``fillers``; it is no entity. Source: own choice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieveall.types import GoldEntity

LABELS: tuple[str, ...] = ("PER", "LOC", "ORG")

_SLOT = re.compile(r"\{(?P<kind>[A-Za-z_]+)(?:#(?P<n1>\d+))?(?::(?P<case>\w+))?(?:#(?P<n2>\d+))?\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """One name of one type with its case forms.

    Attributes:
        label: ``PER``, ``LOC`` or ``ORG``; for an ordinary word the name of its filler list.
        forms: ``(case, form)`` pairs, the citation form first; a name that is the same in every
            case has the single pair ``("", form)``.
    """

    label: str
    forms: tuple[tuple[str, str], ...]

    @property
    def citation(self) -> str:
        """The form of the dictionary, by which names are told apart."""
        return self.forms[0][1]

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases it has, in the file's order; ``("",)`` for a name that never changes."""
        return tuple(case for case, _ in self.forms)

    def fits(self, case: str) -> bool:
        """Whether the name has a form for ``case``; the empty case means the citation form."""
        return case in ("", *self.cases) or self.cases == ("",)

    def form(self, case: str) -> str:
        """Returns the form for a case that the name fits."""
        return dict(self.forms).get(case, self.citation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A gap in a frame.

    Attributes:
        kind: An entity type or the name of a filler list.
        case: The form wanted, empty for the citation form.
        key: Slots of one kind with the same key take the same name.
    """

    kind: str
    case: str
    key: str

    @property
    def is_entity(self) -> bool:
        """Whether what fills the slot is a gold mention."""
        return self.kind in LABELS


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A sentence with slots.

    Attributes:
        source: The line as it stands in the data file; frames are told apart by it.
        pieces: Literal text and slots in order.
    """

    source: str
    pieces: tuple[str | Slot, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All slots in order, repeated ones too."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Slot))

    @property
    def mentions(self) -> int:
        """How many gold mentions its sentences have."""
        return sum(slot.is_entity for slot in self.slots)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contraction:
    """A sound rule at the left edge of a slot, such as French ``de`` + ``Avignon`` → ``d'Avignon``.

    Attributes:
        before: The literal text that the slot must follow, a whole word where it starts with one.
        becomes: What replaces it.
        initials: Lower-case beginnings of the slot's text, accents removed, that cause it.
    """

    before: str
    becomes: str
    initials: tuple[str, ...]

    def apply(self, literal: str, form: str) -> str:
        """Returns ``literal``, which stands right before ``form``, with the rule applied to its end."""
        stem = literal[: len(literal) - len(self.before)]
        ending = literal[len(stem) :]
        starts_word = not stem[-1:].isalnum() or not self.before[:1].isalnum()
        if not (starts_word and ending.lower() == self.before and _bare(form).startswith(self.initials)):
            return literal
        return stem + (_capitalise(self.becomes) if ending[:1].isupper() else self.becomes)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleData:
    """One language's data file.

    Attributes:
        names: Entity type → its names, in the file's order.
        fillers: Filler list → its ordinary words.
    """

    language: str
    names: Mapping[str, tuple[Name, ...]]
    frames: tuple[Frame, ...]
    fillers: Mapping[str, tuple[Name, ...]]
    contractions: tuple[Contraction, ...]


def parse_frame(source: str) -> Frame:
    """Splits a frame's line into literals and slots.

    Raises:
        ValueError: When a brace is left that belongs to no slot, or a slot has two numbers.
    """
    pieces: list[str | Slot] = []
    cursor = 0
    for match in _SLOT.finditer(source):
        pieces += [source[cursor : match.start()], _slot(match, len(pieces))]
        cursor = match.end()
    pieces.append(source[cursor:])
    if any(isinstance(piece, str) and re.search(r"[{}]", piece) for piece in pieces):
        raise ValueError(f"frame {source!r} has a brace that opens no slot; write {{PER}} or {{PER:case#1}}")
    return Frame(source=source, pieces=tuple(piece for piece in pieces if piece != ""))


def _slot(match: re.Match[str], position: int) -> Slot:
    if match["n1"] and match["n2"]:
        raise ValueError(f"slot {match[0]!r} has two numbers; one is enough")
    number = match["n1"] or match["n2"]
    # A slot without a number is a name of its own: its position tells it from all others.
    return Slot(kind=match["kind"], case=match["case"] or "", key=f"#{number}" if number else f"@{position}")


def render(
    frame: Frame, filling: Mapping[tuple[str, str], Name], contractions: Sequence[Contraction]
) -> tuple[str, tuple[GoldEntity, ...]]:
    """Writes a frame out as text.

    Args:
        frame: The frame.
        filling: ``(kind, key)`` of every slot → the name that fills it and fits its case.
        contractions: The language's sound rules; the first that changes something wins.

    Returns:
        The text, its first letter capitalised, and its gold mentions in order.
    """
    text = ""
    entities: list[GoldEntity] = []
    literal = ""
    for piece in frame.pieces:
        if isinstance(piece, str):
            literal = piece
            continue
        form = filling[piece.kind, piece.key].form(piece.case)
        text += _contracted(literal, form, contractions)
        literal = ""
        if piece.is_entity:
            entities.append(
                GoldEntity(start_char=len(text), end_char=len(text) + len(form), label=piece.kind)
            )
        text += form
    return _capitalise(text + literal), tuple(entities)


def _contracted(literal: str, form: str, contractions: Sequence[Contraction]) -> str:
    for contraction in contractions:
        changed = contraction.apply(literal, form)
        if changed != literal:
            return changed
    return literal


def _capitalise(text: str) -> str:
    first = text[:1].upper()
    # "ß" and ligatures would grow and move every offset; no sentence of ours starts with one.
    return first + text[1:] if len(first) == 1 else text


def _bare(text: str) -> str:
    """Lower case without accents, as the contraction rules see a word's beginning."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
