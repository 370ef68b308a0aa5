"""An index of some sentences without any file: what taught examples are searched in.

Axes: N texts, M mentions, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from retrieveall.embedding.protocol import Embedder, Vectors
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.retrieval.rows import ContextRows, EntityRows, context_table, entity_table
from retrieveall.retrieval.shards import ShardSet, build_index
from retrieveall.types import Sentence, Span

_REMEMBERED = 20_000  # vectors; 40 MB at 512 dimensions


def index_in_memory(sentences: Sequence[Sentence], embedder: Embedder) -> LanguageIndex:
    """Makes the index that `write_index` would write, with flat shards.

    Args:
        sentences: Of one language, at least one.
        embedder: Makes the vectors, and those of the queries.
    """
    contexts = ContextRows(context_table(sentences))
    mentions = entity_table(sentences, per_occurrence=embedder.contextual)
    return LanguageIndex(
        contexts=contexts,
        entities=EntityRows(mentions, contexts),
        context_shards=_flat(embedder.embed_texts([s.text for s in sentences]), embedder),
        entity_shards=_flat(_mention_vectors(mentions, sentences, embedder), embedder),
        embedder=embedder,
    )


def _flat(vectors: Vectors, embedder: Embedder) -> ShardSet:
    return ShardSet([build_index(vectors, "flat")] if len(vectors) else [], embedder.dimensions)


def _mention_vectors(mentions: pa.Table, sentences: Sequence[Sentence], embedder: Embedder) -> Vectors:
    """Embeds the first occurrence of each mention, inside its sentence where that matters: ``(M, D)``."""
    if not embedder.contextual or not len(mentions):
        return embedder.embed_texts(mentions["mention"].to_pylist())
    columns = (mentions[name].to_pylist() for name in ("sources", "start_char", "end_char"))
    places = [
        (sentences[sources[0]].text, Span(start_char=start, end_char=end))
        for sources, start, end in zip(*columns, strict=True)
    ]
    return embedder.embed_mentions([text for text, _ in places], [[span] for _, span in places])


class RememberingEmbedder:
    """An embedder that embeds nothing twice, so that an index that grows by one sentence costs one.

    Args:
        embedder: Does the work.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.dimensions = embedder.name, embedder.dimensions
        self.digest, self.contextual = embedder.digest, embedder.contextual
        self._known: dict[Hashable, Vectors] = {}

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed_texts`."""
        return self._remembered(texts, self._embedder.embed_texts)

    def embed_mentions(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> Vectors:
        """See `Embedder.embed_mentions`."""
        places = [(text, span) for text, some in zip(texts, spans, strict=True) for span in some]

        def embed(missing: Sequence[tuple[str, Span]]) -> Vectors:
            return self._embedder.embed_mentions([t for t, _ in missing], [[span] for _, span in missing])

        return self._remembered(places, embed)

    def _remembered(self, keys: Sequence[Hashable], embed: Callable[[Sequence[Any]], Vectors]) -> Vectors:
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        if missing:
            self._known.update(zip(missing, embed(missing), strict=True))
        if not keys:
            return np.empty((0, self.dimensions), np.float32)
        return np.stack([self._known[key] for key in keys])
