"""One language's index, opened: its rows, its vectors, and the search for a sentence's neighbours.

Axes: N sentences, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from retrieveall.embedding.protocol import Embedder, Vectors
from retrieveall.errors import IncompatibleArtefactError, NotFoundError
from retrieveall.folders import fetch_folder
from retrieveall.retrieval.entity_search import (
    SPAN_POOL,
    Hit,
    SpanQueries,
    Surfaces,
    fuzzy_hits,
    rank_hits,
    span_queries,
)
from retrieveall.retrieval.keys import sentence_key
from retrieveall.retrieval.manifest import MANIFEST, IndexManifest
from retrieveall.retrieval.neighbourhood import (
    DEFAULT_LAMBDA,
    DEFAULT_M,
    DEFAULT_N,
    M_MAX,
    Neighbourhood,
    Ranked,
    check_sizes,
    ranked,
    select,
)
from retrieveall.retrieval.rows import CONTEXT_SCHEMA, ENTITY_SCHEMA, ContextRows, EntityRows, Rows
from retrieveall.retrieval.shards import ShardSet
from retrieveall.storage import Store
from retrieveall.types import Examples

CONTEXT_POOL = 32
"""Context rows over whose similarities the dynamic threshold is taken."""

Hits: TypeAlias = tuple[Hit, ...]

_NONE: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """What an index offers for one sentence, before anything is ranked.

    Attributes:
        rows: Context rows, nearest first, at most ``CONTEXT_POOL``.
        similarities: Their cosines.
        exact: Entity rows that the look-up found, in no order.
        fuzzy: Entity rows that the vector search found, in no order.
    """

    rows: Rows
    similarities: Vectors
    exact: Hits
    fuzzy: Hits


class LanguageIndex:
    """Searches one language. Safe to share between threads.

    Args:
        contexts: Context rows.
        entities: Entity rows.
        context_shards: Vectors of the context rows.
        entity_shards: Vectors of the entity rows.
        embedder: What made the vectors.
        folded: The taught sentences that were folded into the index, see `retrieveall.taught.compact`.
    """

    def __init__(
        self,
        *,
        contexts: ContextRows,
        entities: EntityRows,
        context_shards: ShardSet,
        entity_shards: ShardSet,
        embedder: Embedder,
        folded: FoldedIndex | None = None,
    ) -> None:
        self.contexts = contexts
        self.entities = entities
        self.context_shards = context_shards
        self.entity_shards = entity_shards
        self.embedder = embedder
        self.folded = folded

    @classmethod
    def open(cls, store: Store, manifest: IndexManifest, embedder: Embedder) -> LanguageIndex:
        """Opens a finished index; of a remote store a local copy is made first, once.

        Args:
            store: The folder that holds all indexes.
            manifest: Which index, see `read_manifest`.
            embedder: Must be the one that the index was made with.

        Raises:
            IncompatibleArtefactError: The embedder is another one, or a file does not fit.
        """
        if embedder.digest != manifest.embedder_digest:
            raise IncompatibleArtefactError(
                f"The index {manifest.language}/{manifest.digest} was made with embedder"
                f" {manifest.embedder_digest}, {embedder.digest} ({embedder.name}) was given. Use that"
                " embedder, or build the index again."
            )
        return open_parts(store, f"{manifest.language}/{manifest.digest}", manifest.digest, embedder)

    def neighbourhoods(
        self,
        texts: Sequence[str],
        *,
        embeddings: Vectors | None = None,
        exclude: Sequence[str | None] | None = None,
    ) -> list[Neighbourhood]:
        """Finds the neighbours of N sentences.

        Args:
            texts: N sentences.
            embeddings: Their vectors ``(N, D)`` where the caller has them (the router's).
            exclude: For each, a sentence whose own rows are left out (training), or None.
        """
        if not texts:
            return []
        excluded = [_NONE if t is None else self.contexts.with_key(sentence_key(t)) for t in exclude or ()]
        vectors = self.embedder.embed_texts(texts) if embeddings is None else embeddings
        surfaces = [Surfaces.of(text) for text in texts]
        return [
            Neighbourhood(
                context=self._distinct(found.rows, found.similarities),
                entity=rank_hits((*found.exact, *found.fuzzy), self.entities),
            )
            for found in self.candidates(surfaces, vectors, excluded or [_NONE] * len(texts))
        ]

    def candidates(
        self, surfaces: Sequence[Surfaces], vectors: Vectors, excluded: Sequence[Rows]
    ) -> list[Candidates]:
        """Finds what may become neighbours of N sentences.

        Args:
            surfaces: N sentences, at least one.
            vectors: Their vectors ``(N, D)``.
            excluded: For each the context rows that are left out.
        """
        contexts = self._context(vectors, excluded)
        hits = self._entity(surfaces, excluded)
        return [
            Candidates(rows=rows, similarities=similarities, exact=exact, fuzzy=fuzzy)
            for (rows, similarities), (exact, fuzzy) in zip(contexts, hits, strict=True)
        ]

    def examples(
        self,
        texts: Sequence[str],
        *,
        n: int = DEFAULT_N,
        m: int = DEFAULT_M,
        threshold_lambda: float = DEFAULT_LAMBDA,
        embeddings: Vectors | None = None,
        exclude: Sequence[str | None] | None = None,
    ) -> list[Examples]:
        """Finds the neighbours of N sentences and keeps the strongest as examples.

        Raises:
            ConfigError: n or m is negative or larger than what an index keeps.
        """
        check_sizes(n, m)
        return [
            self.select(found, n=n, m=m, threshold_lambda=threshold_lambda)
            for found in self.neighbourhoods(texts, embeddings=embeddings, exclude=exclude)
        ]

    def select(self, found: Neighbourhood, *, n: int, m: int, threshold_lambda: float) -> Examples:
        """Turns what was found for a sentence into examples (see neighbourhood.py)."""
        return select(found, self.contexts, self.entities, n=n, m=m, threshold_lambda=threshold_lambda)

    def _context(self, vectors: Vectors, excluded: Sequence[Rows]) -> list[tuple[Rows, Vectors]]:
        k = CONTEXT_POOL + max(map(len, excluded))
        similarities, rows = self.context_shards.search(np.ascontiguousarray(vectors, np.float32), k)
        found = []
        for row, similarity, gone in zip(rows, similarities, excluded, strict=True):
            good = (row >= 0) & ~np.isin(row, gone)
            found.append((row[good][:CONTEXT_POOL], similarity[good][:CONTEXT_POOL]))
        return found

    def _distinct(self, rows: Rows, similarities: Vectors) -> Ranked:
        """Leaves out, in the list shown, sentences that stand there already."""
        first = np.sort(np.unique(self.contexts.keys[rows], return_index=True)[1])
        return ranked(rows[first], similarities[first], rows[first], candidates=similarities, at_most=M_MAX)

    def _entity(self, surfaces: Sequence[Surfaces], excluded: Sequence[Rows]) -> list[tuple[Hits, Hits]]:
        queries = [
            span_queries(one, self.entities, gone) for one, gone in zip(surfaces, excluded, strict=True)
        ]
        found = iter(self._search_spans([one.text for one in surfaces], queries))
        answers = []
        for query in queries:
            fuzzy: list[Hit] = []
            for span in query.spans:
                similarities, rows = next(found)
                fuzzy += fuzzy_hits(span, rows, similarities.tolist(), self.entities, query)
            answers.append((query.exact, tuple(fuzzy)))
        return answers

    def _search_spans(
        self, texts: Sequence[str], queries: Sequence[SpanQueries]
    ) -> list[tuple[Vectors, Rows]]:
        if not any(query.spans for query in queries):
            return []
        vectors = self.embedder.embed_mentions(texts, [query.spans for query in queries])
        k = SPAN_POOL + max(len(query.dropped) for query in queries)
        similarities, rows = self.entity_shards.search(vectors, k)
        return list(zip(similarities, rows, strict=True))


@dataclass(frozen=True, kw_only=True)
class FoldedIndex:
    """The taught sentences that were folded into an index: an index of their own beside its shards.

    Attributes:
        index: What is searched.
        seq: Number of the last shared call whose examples are in it.
    """

    index: LanguageIndex
    seq: int

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """Context row by the id of a taught example."""
        contexts = self.index.contexts
        return {contexts.sentence_id(row): row for row in range(len(contexts))}


def read_manifest(store: Store, language: str, digest: str) -> IndexManifest:
    """Reads the manifest of an index.

    Raises:
        NotFoundError: There is no finished index of that language and digest.
        IncompatibleArtefactError: It was written by another format version.
    """
    path = f"{language}/{digest}/{MANIFEST}"
    if not store.exists(path):
        raise NotFoundError(
            f"There is no finished index {language}/{digest} in {store.uri!r}. Build it: retrieveall index."
        )
    return IndexManifest.from_dict(store.read_json(path))


def list_indexes(store: Store, language: str | None = None) -> list[IndexManifest]:
    """Returns the manifests of all finished indexes, by language and digest."""
    return [
        read_manifest(store, code, digest)
        for code in (store.list() if language is None else (language,))
        for digest in store.list(code)
        if store.exists(f"{code}/{digest}/{MANIFEST}")
    ]


def corpus_indexes(store: Store, corpus: str) -> dict[str, str]:
    """Returns the digest of an index of the corpus for every language that has one.

    Raises:
        NotFoundError: None has.
    """
    found = {index.language: index.digest for index in list_indexes(store) if index.corpus == corpus}
    if not found:
        raise NotFoundError(f"Corpus {corpus!r} has no index. Build it: retrieveall index --corpus {corpus}")
    return found


def open_parts(store: Store, path: str, digest: str, embedder: Embedder) -> LanguageIndex:
    """Opens rows and vectors, whether or not the manifest stands there yet (the build does so)."""
    folders = {
        name: fetch_folder(store, f"{path}/{name}", f"index-{digest}-{name}")
        for name in ("context", "entity")
    }
    contexts = ContextRows(_rows(folders["context"], CONTEXT_SCHEMA))
    return LanguageIndex(
        contexts=contexts,
        entities=EntityRows(_rows(folders["entity"], ENTITY_SCHEMA), contexts),
        context_shards=ShardSet.open(_files(folders["context"], "faiss"), embedder.dimensions),
        entity_shards=ShardSet.open(_files(folders["entity"], "faiss"), embedder.dimensions),
        embedder=embedder,
    )


def _files(folder: Path, extension: str) -> list[Path]:
    return sorted(folder.glob(f"shard-*.{extension}"))


def _rows(folder: Path, schema: pa.Schema) -> pa.Table:
    """Maps the row files of a granularity; they are read page by page as they are needed."""
    tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in _files(folder, "arrow")]
    return pa.concat_tables(tables) if tables else schema.empty_table()
