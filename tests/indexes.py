"""Small indexes for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieveall.embedding import EmbedderSpec, NgramEmbedder
from retrieveall.embedding.protocol import Embedder
from retrieveall.retrieval import IndexManifest, IndexOptions, IndexRequest, LanguageIndex, write_index
from retrieveall.retrieval.rows import (
    ENTITY_SCHEMA,
    ContextRows,
    EntityRows,
    context_table,
    entity_table,
    shard_ranges,
)
from retrieveall.retrieval.shards import ShardSet, build_index
from retrieveall.storage import Store
from retrieveall.types import Sentence
from tests.annotated import annotated

SMALL = NgramEmbedder(dimensions=64)
SMALL_SPEC = EmbedderSpec(dimensions=64)


def training(*marked: str, language: str = "en") -> list[Sentence]:
    """Sentences of a training split, ids ``s0``, ``s1`` …"""
    return [
        annotated(text, language=language, sentence_id=f"s{number}", split="train")
        for number, text in enumerate(marked)
    ]


def request(sentences: Sequence[Sentence], options: IndexOptions | None = None) -> IndexRequest:
    """Asks for the index of some sentences."""
    return IndexRequest(
        language=sentences[0].language,
        corpus="small",
        corpus_digest="c" * 16,
        spec=SMALL_SPEC,
        embedder_digest=SMALL.digest,
        options=options or IndexOptions(kind="flat"),
    )


def written(
    folder: Path, sentences: Sequence[Sentence], options: IndexOptions | None = None
) -> tuple[Store, IndexManifest]:
    """Builds an index in a folder."""
    store = Store.open(folder, create=True)
    return store, write_index(store, request(sentences, options), sentences, SMALL)


def in_memory(sentences: Sequence[Sentence], *, rows_per_shard: int = 1_000) -> LanguageIndex:
    """The same index without any file."""
    contexts = ContextRows(context_table(sentences))
    entities = EntityRows(entity_table(sentences, per_occurrence=False), contexts)
    texts = [sentence.text for sentence in sentences]
    return LanguageIndex(
        contexts=contexts,
        entities=entities,
        context_shards=_shards(texts, rows_per_shard),
        entity_shards=_shards([entities.mention(row) for row in range(len(entities))], rows_per_shard),
        embedder=SMALL,
    )


def _shards(texts: Sequence[str], rows_per_shard: int) -> ShardSet:
    vectors = SMALL.embed_texts(texts)
    ranges = shard_ranges(len(texts), rows_per_shard)
    return ShardSet([build_index(vectors[a:b], "flat") for a, b in ranges], SMALL.dimensions)


def contexts_only(sentences: Sequence[Sentence], embedder: Embedder) -> LanguageIndex:
    """An index in memory without entity rows, enough for routing."""
    contexts = ContextRows(context_table(sentences))
    vectors = embedder.embed_texts([sentence.text for sentence in sentences])
    return LanguageIndex(
        contexts=contexts,
        entities=EntityRows(ENTITY_SCHEMA.empty_table(), contexts),
        context_shards=ShardSet([build_index(vectors, "flat")], embedder.dimensions),
        entity_shards=ShardSet([], embedder.dimensions),
        embedder=embedder,
    )
