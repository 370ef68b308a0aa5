"""One language's index, opened: its rows, its vectors, and the search for a sentence's neighbours.

Axes: N sentences, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrieveall.embedding.protocol import Embedder, Vectors
from retrieveall.errors import IncompatibleArtefactError, NotFoundError
from retrieveall.folders import fetch_folder
from retrieveall.retrieval.entity_search import (
    SPAN_POOL,
    Hit,
    Hits,
    Surfaces,
    fuzzy_hits,
    fuzzy_spans,
    look_up,
    rank_hits,
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
from retrieveall.types import Examples, Span

CONTEXT_POOL = 32
"""Context rows over whose similarities the dynamic threshold is taken."""

_NONE: Rows = np.empty(0, np.int64)


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

    def under(self, folded: FoldedIndex) -> LanguageIndex:
        """Returns the same index with taught sentences folded into it; the shards are shared."""
        return LanguageIndex(
            contexts=self.contexts,
            entities=self.entities,
            context_shards=self.context_shards,
            entity_shards=self.entity_shards,
            embedder=self.embedder,
            folded=folded,
        )

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
        excluded = excluded or [_NONE] * len(texts)
        vectors = self.embedder.embed_texts(texts) if embeddings is None else embeddings
        surfaces = [Surfaces.of(text) for text in texts]
        exact = self.look_up(surfaces, excluded)
        spans = [fuzzy_spans(one, hits) for one, hits in zip(surfaces, exact, strict=True)]
        fuzzy = self.near(spans, embed_spans(self.embedder, texts, spans), excluded)
        return [
            Neighbourhood(context=self._distinct(*nearest), entity=rank_hits((*found, *near), self.entities))
            for nearest, found, near in zip(self.nearest(vectors, excluded), exact, fuzzy, strict=True)
        ]

    def nearest(self, vectors: Vectors, excluded: Sequence[Rows]) -> list[tuple[Rows, Vectors]]:
        """Finds the context rows nearest to N sentences: at most ``CONTEXT_POOL`` rows and their cosines.

        Args:
            vectors: Of the sentences ``(N, D)``, N at least one.
            excluded: For each the context rows that are left out.
        """
        k = CONTEXT_POOL + max(map(len, excluded))
        similarities, rows = self.context_shards.search(np.ascontiguousarray(vectors, np.float32), k)
        found = []
        for row, similarity, gone in zip(rows, similarities, excluded, strict=True):
            good = (row >= 0) & ~np.isin(row, gone)
            found.append((row[good][:CONTEXT_POOL], similarity[good][:CONTEXT_POOL]))
        return found

    def look_up(self, surfaces: Sequence[Surfaces], excluded: Sequence[Rows]) -> list[Hits]:
        """Looks the short runs of N sentences up.

        Args:
            surfaces: N sentences.
            excluded: For each the context rows that are left out.
        """
        return [look_up(one, self.entities, gone) for one, gone in zip(surfaces, excluded, strict=True)]

    def near(self, spans: Sequence[Sequence[Span]], vectors: Vectors, excluded: Sequence[Rows]) -> list[Hits]:
        """Finds the mentions nearest to spans of N sentences, at most ``SPAN_POOL`` for each span.

        Args:
            spans: N sequences, M spans in all.
            vectors: Of the spans ``(M, D)``.
            excluded: For each sentence the context rows that are left out.
        """
        if not len(vectors):
            return [()] * len(spans)
        dropped = [self.entities.only_in(gone) for gone in excluded]
        found = zip(*self.entity_shards.search(vectors, SPAN_POOL + max(map(len, dropped))), strict=True)
        answers = []
        for some, gone, rest in zip(spans, excluded, dropped, strict=True):
            hits: list[Hit] = []
            for span in some:
                similarities, rows = next(found)
                hits += fuzzy_hits(span, rows, similarities.tolist(), self.entities, gone, rest)
            answers.append(tuple(hits))
        return answers

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

    def _distinct(self, rows: Rows, similarities: Vectors) -> Ranked:
        """Leaves out, in the list shown, sentences that stand there already."""
        first = np.sort(np.unique(self.contexts.keys[rows], return_index=True)[1])
        return ranked(rows[first], similarities[first], rows[first], candidates=similarities, at_most=M_MAX)


def embed_spans(embedder: Embedder, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> Vectors:
    """Embeds spans of N sentences, M in all, where there are any: ``(M, D)``."""
    if any(spans):
        return embedder.embed_mentions(texts, spans)
    return np.empty((0, embedder.dimensions), np.float32)


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
    """Returns the manifests of all finished indexes with shards of their own, by language and digest."""
    found = [
        read_manifest(store, code, digest)
        for code in (store.list() if language is None else (language,))
        for digest in store.list(code)
        if store.exists(f"{code}/{digest}/{MANIFEST}")
    ]
    return [manifest for manifest in found if manifest.folded is None]


def corpus_indexes(store: Store, corpus: str) -> dict[str, str]:
    """Returns the digest of an index of the corpus for every language that has one.

    Raises:
        NotFoundError: None has.
    """
    found = {index.language: index.digest for index in list_indexes(store) if index.corpus == corpus}
    if not found:
        raise NotFoundError(f"Corpus {corpus!r} has no index. Build it: retrieveall index --corpus {corpus}")
    return found


def open_contexts(store: Store, language: str, digest: str) -> ContextRows:
    """Opens the training sentences of an index with shards of its own.

    Raises:
        NotFoundError: There is no such finished index.
        IncompatibleArtefactError: It was written by another format version.
    """
    read_manifest(store, language, digest)
    return ContextRows(_rows(_fetched(store, f"{language}/{digest}", digest, "context"), CONTEXT_SCHEMA))


def open_parts(store: Store, path: str, digest: str, embedder: Embedder) -> LanguageIndex:
    """Opens rows and vectors, whether or not the manifest stands there yet (the build does so)."""
    folders = {name: _fetched(store, path, digest, name) for name in ("context", "entity")}
    contexts = ContextRows(_rows(folders["context"], CONTEXT_SCHEMA))
    return LanguageIndex(
        contexts=contexts,
        entities=EntityRows(_rows(folders["entity"], ENTITY_SCHEMA), contexts),
        context_shards=ShardSet.open(_files(folders["context"], "faiss"), embedder.dimensions),
        entity_shards=ShardSet.open(_files(folders["entity"], "faiss"), embedder.dimensions),
        embedder=embedder,
    )


def _fetched(store: Store, path: str, digest: str, granularity: str) -> Path:
    return fetch_folder(store, f"{path}/{granularity}", f"index-{digest}-{granularity}")


def _files(folder: Path, extension: str) -> list[Path]:
    return sorted(folder.glob(f"shard-*.{extension}"))


def _rows(folder: Path, schema: pa.Schema) -> pa.Table:
    """Maps the row files of a granularity; they are read page by page as they are needed."""
    tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in _files(folder, "arrow")]
    return pa.concat_tables(tables) if tables else schema.empty_table()
