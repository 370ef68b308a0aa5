"""The Arrow rows beside the vectors: training sentences, and their mentions.

A context row is a training sentence. An entity row is one (mention, label) pair with the context
rows it stands in; for an embedder whose mention vectors depend on the sentence it is one occurrence.
Entity rows are sorted by mention and label, so that their order does not depend on where a mention
stands: leaving a sentence out, or changing its gold, never reorders the others. Source: own choice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieveall.retrieval.candidates import candidate_spans
from retrieveall.retrieval.keys import Keys, sentence_keys, surface_key, surface_keys
from retrieveall.types import ContextExample, GoldEntity, Sentence

Rows = NDArray[np.int64]

_ENTITY = pa.struct([("start_char", pa.int32()), ("end_char", pa.int32()), ("label", pa.string())])

CONTEXT_SCHEMA = pa.schema(
    [
        ("sentence_id", pa.string()),
        ("text", pa.string()),
        ("entities", pa.list_(_ENTITY)),
        ("key", pa.uint64()),
    ]
)
"""A training sentence; ``key`` decides whether it equals another (keys.py)."""

ENTITY_SCHEMA = pa.schema(
    [
        ("mention", pa.string()),
        ("label", pa.string()),
        ("key", pa.uint64()),
        ("sources", pa.list_(pa.int64())),
        ("start_char", pa.int32()),
        ("end_char", pa.int32()),
        ("sentences", pa.int32()),
    ]
)
"""A mention: ``sources`` are the context rows it stands in, once per occurrence, ascending; the
offsets are those in the first; ``sentences`` counts the training sentences in which the surface
occurs at all, tagged or not."""


def context_table(sentences: Sequence[Sentence]) -> pa.Table:
    """Returns the context rows of N training sentences, in their order."""
    entities = [
        [{"start_char": e.start_char, "end_char": e.end_char, "label": e.label} for e in sentence.entities]
        for sentence in sentences
    ]
    columns = {
        "sentence_id": [sentence.id for sentence in sentences],
        "text": [sentence.text for sentence in sentences],
        "entities": entities,
        "key": sentence_keys(sentence.text for sentence in sentences),
    }
    return pa.table(columns, schema=CONTEXT_SCHEMA)


def entity_table(sentences: Sequence[Sentence], *, per_occurrence: bool) -> pa.Table:
    """Returns the entity rows of N training sentences, sorted by mention, label and source.

    Args:
        sentences: In the order of the context rows.
        per_occurrence: One row for each occurrence instead of one for each (mention, label).
    """
    groups = _grouped(sentences, per_occurrence)
    order = sorted(groups)
    keys = surface_keys(mention for mention, _, _ in order)
    occurring = count_sentences((sentence.text for sentence in sentences), set(keys.tolist()))
    first = [sentences[groups[name][0][0]].entities[groups[name][0][1]] for name in order]
    columns = {
        "mention": [mention for mention, _, _ in order],
        "label": [label for _, label, _ in order],
        "key": keys,
        "sources": [[row for row, _ in groups[name]] for name in order],
        "start_char": [entity.start_char for entity in first],
        "end_char": [entity.end_char for entity in first],
        "sentences": [occurring[key] for key in keys.tolist()],
    }
    return pa.table(columns, schema=ENTITY_SCHEMA)


def count_sentences(texts: Iterable[str], keys: set[int]) -> Counter[int]:
    """Counts for each surface key the texts in which it occurs as a run of units."""
    counts: Counter[int] = Counter()
    for text in texts:
        surfaces = {text[span.start_char : span.end_char] for span in candidate_spans(text)}
        counts.update(keys.intersection(map(surface_key, surfaces)))
    return counts


def shard_ranges(rows: int, rows_per_shard: int) -> Iterator[tuple[int, int]]:
    """Half-open row ranges of the shards; none when there are no rows."""
    for first in range(0, rows, rows_per_shard):
        yield first, min(first + rows_per_shard, rows)


def _grouped(
    sentences: Sequence[Sentence], per_occurrence: bool
) -> dict[tuple[str, str, int], list[tuple[int, int]]]:
    """(mention, label, occurrence or 0) to the (context row, entity number) of its occurrences."""
    groups: dict[tuple[str, str, int], list[tuple[int, int]]] = defaultdict(list)
    occurrence = 0
    for row, sentence in enumerate(sentences):
        for number, entity in enumerate(sentence.entities):
            mention = sentence.text[entity.start_char : entity.end_char]
            occurrence += 1
            name = (mention, entity.label, occurrence if per_occurrence else 0)
            groups[name].append((row, number))
    return groups


class ContextRows:
    """Context rows of all shards, read where they lie.

    Args:
        table: Rows of `CONTEXT_SCHEMA`, mapped or in memory.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.keys: Keys = table["key"].to_numpy()
        self._order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order]

    def __len__(self) -> int:
        return len(self.keys)

    def with_key(self, key: int) -> Rows:
        """Returns the rows whose sentence has this key, ascending."""
        wanted = np.uint64(key)
        first, last = (int(np.searchsorted(self._sorted, wanted, side=side)) for side in ("left", "right"))
        return self._order[first:last]

    def sentence_id(self, row: int) -> str:
        """Returns the id of a row's sentence."""
        return str(self._table["sentence_id"][row].as_py())

    def text(self, row: int) -> str:
        """Returns a row's sentence."""
        return str(self._table["text"][row].as_py())

    def entities(self, row: int) -> tuple[GoldEntity, ...]:
        """Returns a row's gold mentions."""
        return tuple(GoldEntity(**values) for values in self._table["entities"][row].as_py())

    def example(self, row: int, similarity: float = 1.0) -> ContextExample:
        """Returns a row as it is shown in a prompt."""
        return ContextExample(
            text=self.text(row),
            entities=self.entities(row),
            similarity=similarity,
            sentence_id=self.sentence_id(row),
        )


class EntityRows:
    """Entity rows of all shards, read where they lie.

    Args:
        table: Rows of `ENTITY_SCHEMA`, mapped or in memory.
        contexts: The context rows that their sources name.
    """

    def __init__(self, table: pa.Table, contexts: ContextRows) -> None:
        self._table = table
        self._contexts = contexts
        self.keys: Keys = table["key"].to_numpy()
        self.sentences: NDArray[np.int32] = table["sentences"].to_numpy()
        self._order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order]
        sources = table["sources"].combine_chunks() if len(table) else pa.array([], pa.list_(pa.int64()))
        if isinstance(sources, pa.ChunkedArray):
            sources = pa.concat_arrays(sources.chunks)
        self._sources: Rows = sources.flatten().to_numpy(zero_copy_only=False)
        self._offsets = np.concatenate(
            [[0], np.cumsum(sources.value_lengths().to_numpy(zero_copy_only=False))]
        )
        self._offsets = self._offsets.astype(np.int64)
        self._by_source = np.argsort(self._sources, kind="stable")
        self._sources_sorted = self._sources[self._by_source]

    def __len__(self) -> int:
        return len(self.keys)

    def mention(self, row: int) -> str:
        """Returns a row's mention as the corpus spells it."""
        return str(self._table["mention"][row].as_py())

    def label(self, row: int) -> str:
        """Returns a row's label."""
        return str(self._table["label"][row].as_py())

    def sources(self, row: int) -> Rows:
        """Returns the context rows that a mention stands in, once per occurrence, ascending."""
        return self._sources[self._offsets[row] : self._offsets[row + 1]]

    def with_keys(self, keys: Keys) -> tuple[Rows, Rows]:
        """Returns pairs (index into ``keys``, row) of all rows whose surface has one of the keys."""
        first = np.searchsorted(self._sorted, keys, side="left")
        counts = np.searchsorted(self._sorted, keys, side="right") - first
        which = np.repeat(np.arange(len(keys)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, self._order[np.repeat(first, counts) + within]

    def only_in(self, excluded: Rows) -> Rows:
        """Returns the rows that stand in no other sentence than the excluded context rows, ascending."""
        if not len(excluded):
            return np.empty(0, np.int64)
        low = np.searchsorted(self._sources_sorted, excluded, side="left")
        high = np.searchsorted(self._sources_sorted, excluded, side="right")
        places = np.concatenate([self._by_source[a:b] for a, b in zip(low, high, strict=True)])
        rows, inside = np.unique(np.searchsorted(self._offsets, places, side="right") - 1, return_counts=True)
        complete: Rows = rows[inside == self._offsets[rows + 1] - self._offsets[rows]]
        return complete
