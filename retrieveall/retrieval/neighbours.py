"""The stored neighbours of every training sentence: found once, rendered in the training loop.

``neighbours.parquet`` holds for each context row what `LanguageIndex.neighbourhoods` found with the
sentence itself excluded, whatever n, m and λ will be, and which neighbours hold a gold mention of
the sentence (for statistics alone: no example is chosen by it).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieveall.errors import NotFoundError
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.retrieval.keys import surface_key
from retrieveall.retrieval.manifest import NEIGHBOURS, IndexManifest
from retrieveall.retrieval.neighbourhood import (
    DEFAULT_LAMBDA,
    DEFAULT_M,
    DEFAULT_N,
    Neighbourhood,
    Ranked,
    check_sizes,
)
from retrieveall.storage import Store
from retrieveall.types import Examples

PARTS = "parts"
_BATCH = 64

_RANKED = pa.struct(
    [
        ("rows", pa.list_(pa.int64())),
        ("similarities", pa.list_(pa.float32())),
        ("sources", pa.list_(pa.int64())),
        ("holds_gold", pa.list_(pa.bool_())),
        ("mean", pa.float32()),
        ("std", pa.float32()),
        ("best", pa.float32()),
    ]
)

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("sentence_id", pa.string()),
        ("gold", pa.int32()),
        ("context", _RANKED),
        ("entity", _RANKED),
    ]
)
"""One row per training sentence; ``gold`` counts its mentions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighbourStatistics:
    """What the stored neighbours look like under the default n, m and λ.

    Attributes:
        context_shown: Mean number of context examples shown.
        entity_shown: Mean number of entity examples shown.
        context_survive: Share of stored context neighbours that pass the threshold.
        entity_survive: Share of stored entity neighbours that pass the threshold.
        context_holds_gold: Share of sentences with entities for which a shown context example
            holds one of its gold mentions with the same label.
        entity_holds_gold: The same for shown entity examples.
        entity_precision: Share of shown entity examples that are a gold mention of the sentence.
    """

    context_shown: float
    entity_shown: float
    context_survive: float
    entity_survive: float
    context_holds_gold: float
    entity_holds_gold: float
    entity_precision: float

    def to_dict(self) -> dict[str, float]:
        """Returns the numbers, rounded to four digits."""
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


class TrainingNeighbours:
    """Reads the stored neighbours of a training set.

    Args:
        index: The opened index.
        table: Rows of ``neighbours.parquet``.
    """

    def __init__(self, index: LanguageIndex, table: pa.Table) -> None:
        self._index = index
        self._table = table
        self._places = {name: place for place, name in enumerate(table["sentence_id"].to_pylist())}

    @classmethod
    def open(cls, store: Store, manifest: IndexManifest, index: LanguageIndex) -> TrainingNeighbours:
        """Opens the neighbours of a finished index."""
        data = store.read_bytes(f"{manifest.language}/{manifest.digest}/{NEIGHBOURS}")
        return cls(index, pq.read_table(io.BytesIO(data)))

    def __len__(self) -> int:
        return len(self._table)

    def examples_for(
        self,
        sentence_id: str,
        *,
        n: int = DEFAULT_N,
        m: int = DEFAULT_M,
        threshold_lambda: float = DEFAULT_LAMBDA,
    ) -> Examples:
        """Returns the examples of a training sentence: what `Retriever.retrieve` would give.

        Raises:
            NotFoundError: The sentence is not in the index's training set.
            ConfigError: n or m is negative or larger than what is stored.
        """
        check_sizes(n, m)
        place = self._places.get(sentence_id)
        if place is None:
            raise NotFoundError(
                f"Sentence {sentence_id!r} is not in the training set of this index. Use the corpus that"
                " the index was built from, or build the index again."
            )
        found = _neighbourhood(self._table, place)
        return self._index.select(found, n=n, m=m, threshold_lambda=threshold_lambda)


def write_part(store: Store, path: str, index: LanguageIndex, first_row: int, last_row: int) -> None:
    """Finds the neighbours of a range of context rows and writes them as one part."""
    records: list[dict[str, Any]] = []
    for first in range(first_row, last_row, _BATCH):
        rows = range(first, min(first + _BATCH, last_row))
        texts = [index.contexts.text(row) for row in rows]
        found = index.neighbourhoods(texts, exclude=texts)
        records += [_record(index, row, one) for row, one in zip(rows, found, strict=True)]
    _write(store, path, pa.Table.from_pylist(records, schema=SCHEMA))


def merge_parts(store: Store, parts: Sequence[str], path: str) -> NeighbourStatistics:
    """Joins the parts, in order, into one file."""
    table = pa.concat_tables([pq.read_table(io.BytesIO(store.read_bytes(part))) for part in parts])
    _write(store, path, table)
    return statistics(table)


def statistics(table: pa.Table) -> NeighbourStatistics:
    """Counts what is shown under the default n, m and λ."""
    gold = table["gold"].to_numpy() > 0
    context = _shown(table, "context", DEFAULT_M)
    entity = _shown(table, "entity", DEFAULT_N)
    return NeighbourStatistics(
        context_shown=_mean(context.shown),
        entity_shown=_mean(entity.shown),
        context_survive=context.survive,
        entity_survive=entity.survive,
        context_holds_gold=_mean(context.gold[gold] > 0),
        entity_holds_gold=_mean(entity.gold[gold] > 0),
        entity_precision=float(entity.gold.sum() / max(1, entity.shown.sum())),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """Per sentence how many neighbours are shown and how many of those hold gold; the share that survives."""

    shown: np.ndarray[Any, np.dtype[np.int64]]
    gold: np.ndarray[Any, np.dtype[np.int64]]
    survive: float


def _shown(table: pa.Table, name: str, at_most: int) -> _Shown:
    shown, gold, survive, stored = [], [], 0, 0
    for place in range(len(table)):
        values = table[name][place].as_py()
        passes = _ranked(values).survivors(DEFAULT_LAMBDA)
        places = np.flatnonzero(passes)[:at_most]
        shown.append(len(places))
        gold.append(int(np.asarray(values["holds_gold"], bool)[places].sum()))
        survive += int(passes.sum())
        stored += len(passes)
    return _Shown(shown=np.array(shown), gold=np.array(gold), survive=survive / max(1, stored))


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _record(index: LanguageIndex, row: int, found: Neighbourhood) -> dict[str, Any]:
    text = index.contexts.text(row)
    entities = index.contexts.entities(row)
    gold = {(surface_key(text[e.start_char : e.end_char]), e.label) for e in entities}
    return {
        "row": row,
        "sentence_id": index.contexts.sentence_id(row),
        "gold": len(entities),
        "context": _values(
            found.context, [_context_holds(index, r, gold) for r in found.context.rows.tolist()]
        ),
        "entity": _values(found.entity, [_entity_holds(index, r, gold) for r in found.entity.rows.tolist()]),
    }


def _values(found: Ranked, holds_gold: list[bool]) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "similarities": found.similarities,
        "sources": found.sources,
        "holds_gold": holds_gold,
        "mean": found.mean,
        "std": found.std,
        "best": found.best,
    }


def _context_holds(index: LanguageIndex, row: int, gold: set[tuple[int, str]]) -> bool:
    text = index.contexts.text(row)
    return any(
        (surface_key(text[e.start_char : e.end_char]), e.label) in gold for e in index.contexts.entities(row)
    )


def _entity_holds(index: LanguageIndex, row: int, gold: set[tuple[int, str]]) -> bool:
    return (int(index.entities.keys[row]), index.entities.label(row)) in gold


def _neighbourhood(table: pa.Table, place: int) -> Neighbourhood:
    return Neighbourhood(
        context=_ranked(table["context"][place].as_py()), entity=_ranked(table["entity"][place].as_py())
    )


def _ranked(values: dict[str, Any]) -> Ranked:
    return Ranked(
        rows=np.array(values["rows"], np.int64),
        similarities=np.array(values["similarities"], np.float32),
        sources=np.array(values["sources"], np.int64),
        mean=values["mean"],
        std=values["std"],
        best=values["best"],
    )


def _write(store: Store, path: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    store.write_bytes(path, sink.getvalue())
