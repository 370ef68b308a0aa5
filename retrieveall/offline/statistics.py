"""Counts of what was tagged: of one fragment, of many, of the whole job."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retrieveall.errors import InputError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.offline.fragments import Fragment
from retrieveall.offline.reading import InputRows
from retrieveall.offline.tagging import TaggedRow

MOST_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowRow:
    """A row that cost the model much.

    Attributes:
        tokens: Read and written for it: what its time goes with, whatever the machine.
        characters: Of its text.
    """

    file: str
    row: int
    tokens: int
    characters: int
    sentences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowError:
    """A row that could not be tagged."""

    file: str
    row: int
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Counts over rows.

    Attributes:
        errors: Rows with an error.
        characters: Of the texts that were tagged.
        tokens: That the model read and wrote.
        sentences: By language.
        entities: By language and label.
        compositions: Sentences by how their adapters acted together.
        examples_dropped: That found no room in their prompts.
        slow: The rows with the most tokens, most first.
        shown_errors: The first errors.
    """

    rows: int = 0
    errors: int = 0
    characters: int = 0
    tokens: int = 0
    sentences: Mapping[str, int] = field(default_factory=dict)
    entities: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    compositions: Mapping[str, int] = field(default_factory=dict)
    examples_dropped: int = 0
    slow: tuple[SlowRow, ...] = ()
    shown_errors: tuple[RowError, ...] = ()

    @property
    def labels(self) -> dict[str, int]:
        """Entities by label, over all languages."""
        total: Counter[str] = Counter()
        for labels in self.entities.values():
            total.update(labels)
        return dict(sorted(total.items()))

    def to_dict(self) -> dict[str, Any]:
        """Returns the counts as JSON values."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "statistics") -> Statistics:
        """Reads what `to_dict` wrote.

        Raises:
            InputError: It is something else.
        """
        return from_dict(cls, values, source=source, error=InputError)


def count_fragment(
    fragment: Fragment, rows: InputRows, tagged: Sequence[TaggedRow], results: Sequence[Any]
) -> Statistics:
    """Returns the counts of one fragment.

    Args:
        fragment: Where the rows come from.
        rows: N rows.
        tagged: N answers.
        results: Their bodies, None for an error.
    """
    sentences: Counter[str] = Counter()
    compositions: Counter[str] = Counter()
    entities: dict[str, Counter[str]] = {}
    slow, errors, characters, dropped = [], [], 0, 0
    for place, (text, row, result) in enumerate(zip(rows.texts, tagged, results, strict=True)):
        number = fragment.first_row + place
        if result is None:
            errors.append(RowError(file=fragment.file, row=number, error=row.error or ""))
            continue
        found = result["sentences"]
        sentences.update(sentence["language"] for sentence in found)
        compositions.update(sentence["composition"] for sentence in found)
        dropped += sum(sentence["examples_dropped"] for sentence in found)
        characters += len(text or "")
        _count_entities(result, entities)
        tokens = sum(sentence["tokens"] for sentence in found)
        slow.append(
            SlowRow(
                file=fragment.file,
                row=number,
                tokens=tokens,
                characters=len(text or ""),
                sentences=len(found),
            )
        )
    return Statistics(
        rows=len(tagged),
        errors=len(errors),
        characters=characters,
        tokens=sum(row.tokens for row in slow),
        sentences=_sorted(sentences),
        entities={code: _sorted(labels) for code, labels in sorted(entities.items())},
        compositions=_sorted(compositions),
        examples_dropped=dropped,
        slow=_slowest(slow),
        shown_errors=tuple(errors[:MOST_SHOWN]),
    )


def _count_entities(result: Mapping[str, Any], entities: dict[str, Counter[str]]) -> None:
    """Counts the entities of a row under the languages of the sentences that they stand in."""
    sentences = iter(result["sentences"])
    sentence: Mapping[str, Any] = {"end_char": -1}
    for entity in result["entities"]:
        while sentence["end_char"] <= entity["start_char"]:
            sentence = next(sentences)
        entities.setdefault(sentence["language"], Counter())[entity["label"]] += 1


def merge_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Returns the counts of all parts together."""
    entities: dict[str, Counter[str]] = {}
    for part in parts:
        for code, labels in part.entities.items():
            entities.setdefault(code, Counter()).update(labels)
    errors = sorted((e for part in parts for e in part.shown_errors), key=lambda e: (e.file, e.row))
    return Statistics(
        rows=sum(part.rows for part in parts),
        errors=sum(part.errors for part in parts),
        characters=sum(part.characters for part in parts),
        tokens=sum(part.tokens for part in parts),
        sentences=_added(part.sentences for part in parts),
        entities={code: _sorted(labels) for code, labels in sorted(entities.items())},
        compositions=_added(part.compositions for part in parts),
        examples_dropped=sum(part.examples_dropped for part in parts),
        slow=_slowest([row for part in parts for row in part.slow]),
        shown_errors=tuple(errors[:MOST_SHOWN]),
    )


def _added(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return _sorted(total)


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _slowest(rows: Sequence[SlowRow]) -> tuple[SlowRow, ...]:
    return tuple(heapq.nsmallest(MOST_SHOWN, rows, key=lambda row: (-row.tokens, row.file, row.row)))
