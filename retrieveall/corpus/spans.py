"""From records with character spans, as JSONL and Parquet hold them, to sentences.

A record is a mapping with ``text`` and ``entities`` (also called ``spans``), each entity with
``start``/``end`` or ``start_char``/``end_char`` in code points, and ``label`` (also ``type``).
``tokens`` (ranges), ``id``, ``language`` and ``split`` are optional. Without tokens the units of
``text/units.py`` stand in, cut at the entities' edges. White space at an entity's edge is trimmed
and counted, anything worse is a ``RecordError``. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from retrieveall.corpus.report import ProblemKind
from retrieveall.errors import InputError
from retrieveall.languages import check_language
from retrieveall.names import check_label
from retrieveall.text.units import cut_units, split_units
from retrieveall.types import SPLITS, GoldEntity, Sentence, Span, Split

_KNOWN_FIELDS = {"text", "entities", "spans", "tokens", "id", "language", "split", "detokenised"}


class RecordError(ValueError):
    """A record that cannot become a sentence."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


def label_problem(label: object) -> str | None:
    """Returns what is wrong with an entity type, None when it can be used."""
    try:
        checked = check_label(label)  # type: ignore[arg-type]  # anything may stand in a file
    except InputError as error:
        return str(error)
    return None if checked.isprintable() else f"the label {label!r} holds characters that cannot be seen."


def record_sentence(
    record: object, *, id: str, language: str, split: Split, note: Callable[[str], None]
) -> Sentence | None:
    """Checks one record and returns its sentence, None when its text is empty.

    Args:
        record: What the file holds.
        id: The sentence's id where the record names none.
        language: A checked code; a record that names another one is refused.
        split: The sentence's split where the record names none.
        note: Told about each repair.

    Raises:
        RecordError: The record cannot be used as it is.
    """
    if not isinstance(record, Mapping):
        raise RecordError("bad record", f"expected an object with text and entities, found {_shown(record)}.")
    text = _text(record)
    _check_language(record.get("language"), language)
    entities = _entities(record, text, note)
    if not text.strip():
        if entities:
            raise RecordError("bad span", "entities in an empty text.")
        return None
    for name in sorted(map(str, set(record) - _KNOWN_FIELDS)):
        note(f"field {name!r} ignored")
    return Sentence(
        id=str(record["id"]) if record.get("id") is not None else id,
        language=language,
        text=text,
        tokens=_tokens(record, text, entities),
        entities=entities,
        split=_split(record.get("split"), split),
    )


def _text(record: Mapping[str, Any]) -> str:
    text = record.get("text")
    if not isinstance(text, str):
        raise RecordError("bad record", f"the field text must be a string, found {_shown(text)}.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise RecordError("wrong encoding", "the text holds half a surrogate pair (a broken emoji, mostly).")
    return text


def _check_language(found: object, expected: str) -> None:
    if found is None:
        return
    try:
        same = check_language(found) == expected if isinstance(found, str) else False
    except InputError:
        same = False
    if not same:
        raise RecordError("bad record", f"the record says language {found!r}, the import says {expected!r}.")


def _split(found: object, otherwise: Split) -> Split:
    if found is None:
        return otherwise
    for split in SPLITS:
        if found == split:
            return split
    raise RecordError("bad record", f"split must be one of {', '.join(SPLITS)}, found {found!r}.")


def _entities(record: Mapping[str, Any], text: str, note: Callable[[str], None]) -> tuple[GoldEntity, ...]:
    found = record.get("entities", record.get("spans"))
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        raise RecordError("bad record", f"the field entities must be a list, found {_shown(found)}.")
    entities = sorted(_entity(item, text, note) for item in found)
    for before, after in pairwise(entities):
        if after.start_char < before.end_char:
            raise RecordError("bad span", f"{_where(before)} and {_where(after)} overlap; entities are flat.")
    return tuple(entities)


def _entity(item: object, text: str, note: Callable[[str], None]) -> GoldEntity:
    if not isinstance(item, Mapping):
        raise RecordError("bad record", f"an entity must have start, end and label, found {_shown(item)}.")
    start_char, end_char = _range(item, len(text), "entity")
    label = item.get("label", item.get("type"))
    wrong = label_problem(label)
    if wrong:
        raise RecordError("bad label", wrong)
    covered = text[start_char:end_char]
    if not covered.strip():
        raise RecordError("bad span", f"the entity {start_char}–{end_char} covers no visible character.")
    if covered != covered.strip():
        note("white space trimmed from the edge of an entity")
        start_char += len(covered) - len(covered.lstrip())
        end_char -= len(covered) - len(covered.rstrip())
    return GoldEntity(start_char=start_char, end_char=end_char, label=str(label))


def _range(item: Mapping[str, Any], length: int, what: str) -> tuple[int, int]:
    start_char = item.get("start_char", item.get("start"))
    end_char = item.get("end_char", item.get("end"))
    if type(start_char) is not int or type(end_char) is not int:  # bool is an int too, and no offset
        raise RecordError("bad record", f"start and end of a {what} must be integers, found {_shown(item)}.")
    if not 0 <= start_char < end_char <= length:
        raise RecordError(
            "bad span",
            f"{what} {start_char}–{end_char} is out of range: the text has {length} code points.",
        )
    return start_char, end_char


def _tokens(record: Mapping[str, Any], text: str, entities: tuple[GoldEntity, ...]) -> tuple[Span, ...]:
    found = record.get("tokens")
    if found is None:
        edges = {edge for entity in entities for edge in (entity.start_char, entity.end_char)}
        return cut_units(split_units(text), edges)
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        raise RecordError("bad record", f"the field tokens must be a list of ranges, found {_shown(found)}.")
    tokens = []
    end_before = 0
    for item in found:
        if not isinstance(item, Mapping):
            raise RecordError("bad record", f"a token must have start and end, found {_shown(item)}.")
        start_char, end_char = _range(item, len(text), "token")
        if start_char < end_before:
            raise RecordError("bad span", f"token {start_char}–{end_char} overlaps the token before it.")
        end_before = end_char
        tokens.append(Span(start_char=start_char, end_char=end_char))
    _check_edges(tokens, entities)
    return tuple(tokens)


def _check_edges(tokens: list[Span], entities: tuple[GoldEntity, ...]) -> None:
    starts = {token.start_char for token in tokens}
    ends = {token.end_char for token in tokens}
    for entity in entities:
        if entity.start_char not in starts or entity.end_char not in ends:
            raise RecordError("bad span", f"{_where(entity)} does not start and end where tokens do.")


def _where(entity: GoldEntity) -> str:
    return f"entity {entity.start_char}–{entity.end_char} {entity.label}"


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
