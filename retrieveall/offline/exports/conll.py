"""CoNLL: a token and its IOB2 tag a line, a blank line after each sentence.

Tokens are the units of ``text/units.py``, cut at the edges of entities. ``# <file>:<row>`` stands before
each sentence; readers of CoNLL take it for a comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from retrieveall.offline.exports.rows import ExportRow
from retrieveall.text.units import cut_units, split_units
from retrieveall.types import Span


def write_conll(rows: Iterable[ExportRow], stream: BinaryIO) -> None:
    """Writes the sentences of all tagged rows."""
    for row in rows:
        for lines in _sentences(row):
            stream.write("".join(f"{line}\n" for line in [f"# {row.key}", *lines, ""]).encode())


def _sentences(row: ExportRow) -> Iterator[list[str]]:
    for sentence in row.sentences:
        start, end = sentence["start_char"], sentence["end_char"]
        inside = [entity for entity in row.entities if start <= entity["start_char"] < end]
        text = row.text[start:end]
        tokens = cut_units(split_units(text), {edge - start for edge in row.edges})
        pairs = zip(tokens, _tags(tokens, inside, start), strict=True)
        yield [f"{text[token.start_char : token.end_char]}\t{tag}" for token, tag in pairs]


def _tags(tokens: Sequence[Span], entities: Sequence[Mapping[str, Any]], offset: int) -> list[str]:
    tags = ["O"] * len(tokens)
    for entity in entities:
        start, end = entity["start_char"] - offset, entity["end_char"] - offset
        inside = [place for place, token in enumerate(tokens) if start <= token.start_char < end]
        for place in inside:
            tags[place] = f"{'B' if place == inside[0] else 'I'}-{entity['label']}"
    return tags
