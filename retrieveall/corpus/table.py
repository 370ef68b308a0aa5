"""The corpus row as Arrow: schema, and the way from sentences to a table and back.

Beside the contract's columns stands ``detokenised``: the same sentence as people write it (struct
of text, tokens, entities; null where the corpus has no such form). Columns are built from flat
arrays, because a Python dict per token costs ten times as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa

from retrieveall.types import SPLITS, GoldEntity, Sentence, Span

Form = Literal["tokenised", "detokenised"]

_SPAN = pa.struct([pa.field("start_char", pa.int32(), False), pa.field("end_char", pa.int32(), False)])
_ENTITY = pa.struct([*_SPAN, pa.field("label", pa.string(), False)])
_TOKENS = pa.list_(pa.field("item", _SPAN, False))
_ENTITIES = pa.list_(pa.field("item", _ENTITY, False))
_DETOKENISED = pa.struct(
    [
        pa.field("text", pa.string()),  # nullable: Parquet looks for nulls inside a null struct too
        pa.field("tokens", _TOKENS),
        pa.field("entities", _ENTITIES),
    ]
)

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("language", pa.string(), False),
        pa.field("text", pa.string(), False),
        pa.field("tokens", _TOKENS, False),
        pa.field("entities", _ENTITIES, False),
        pa.field("split", pa.string(), False),
        pa.field("detokenised", _DETOKENISED),
    ]
)
"""The corpus row; offsets are code points of the text beside them."""


def to_table(sentences: Sequence[Sentence], detokenised: Sequence[Sentence] | None) -> pa.Table:
    """Writes N sentences, and their detokenised twins where there are any, as N rows of ``SCHEMA``."""
    columns = [
        pa.array([sentence.id for sentence in sentences], pa.string()),
        pa.array([sentence.language for sentence in sentences], pa.string()),
        *_form(sentences),
        pa.array([sentence.split for sentence in sentences], pa.string()),
    ]
    if detokenised is None:
        columns.append(pa.nulls(len(sentences), _DETOKENISED))
    else:
        columns.append(pa.StructArray.from_arrays(_form(detokenised), fields=list(_DETOKENISED)))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def from_table(table: pa.Table, form: Form = "tokenised") -> Iterator[Sentence]:
    """Yields the rows of a table of ``SCHEMA`` as sentences.

    Args:
        table: N rows.
        form: Which text and offsets to give.
    """
    texts, tokens, entities = _flat_columns(table, form)
    ids, languages, splits = (table[name].to_pylist() for name in ("id", "language", "split"))
    of_name = {split: split for split in SPLITS}
    for row, text in enumerate(texts):
        yield Sentence(
            id=ids[row],
            language=languages[row],
            text=text,
            tokens=tuple(Span(start_char=start, end_char=end) for start, end in tokens[row]),
            entities=tuple(
                GoldEntity(start_char=start, end_char=end, label=label) for start, end, label in entities[row]
            ),
            split=of_name[splits[row]],
        )


def _form(sentences: Sequence[Sentence]) -> list[pa.Array]:
    texts = pa.array([sentence.text for sentence in sentences], pa.string())
    tokens = _nested(((t.start_char, t.end_char) for t in s.tokens) for s in sentences)
    entities = _nested(((e.start_char, e.end_char, e.label) for e in s.entities) for s in sentences)
    return [texts, _list_array(*tokens, _TOKENS), _list_array(*entities, _ENTITIES)]


def _nested(rows: Iterable[Iterable[tuple[Any, ...]]]) -> tuple[list[int], list[tuple[Any, ...]]]:
    offsets: list[int] = [0]
    items: list[tuple[Any, ...]] = []
    for row in rows:
        items.extend(row)
        offsets.append(len(items))
    return offsets, items


def _list_array(offsets: list[int], items: list[tuple[Any, ...]], kind: pa.ListType) -> pa.Array:
    fields = list(kind.value_type)
    columns = list(zip(*items, strict=True)) if items else [()] * len(fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    struct = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct, type=kind)


def _flat_columns(table: pa.Table, form: Form) -> tuple[list[str], list[Any], list[Any]]:
    columns = [table[name] for name in ("text", "tokens", "entities")]
    if form == "detokenised":
        twin = table["detokenised"].combine_chunks()
        columns = [twin.field(name) for name in ("text", "tokens", "entities")]
    text, tokens, entities = columns
    return text.to_pylist(), _rows(tokens), _rows(entities)


def _rows(column: pa.Array | pa.ChunkedArray) -> list[list[tuple[Any, ...]]]:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat = array.flatten()
    items = list(zip(*(child.to_pylist() for child in flat.flatten()), strict=True))
    lengths = array.value_lengths().to_pylist()
    rows, start = [], 0
    for length in lengths:
        rows.append(items[start : start + length])
        start += length
    return rows
