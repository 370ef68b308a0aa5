"""Writing an index step by step; each step is idempotent, so a killed build goes on where it was.

    plan_rows → embed_shard (each shard) → find_neighbours (each range) → finish (manifest, last)

A step's files are written under a temporary name and moved: what is there is complete. The steps
are plain functions; `train_jobs.build_index` runs them in a Ray Data job, `write_index` in a loop.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from retrieveall.embedding.protocol import Embedder, Vectors
from retrieveall.embedding.spec import EmbedderSpec
from retrieveall.errors import InputError
from retrieveall.retrieval.index import open_parts
from retrieveall.retrieval.manifest import MANIFEST, NEIGHBOURS, IndexManifest, IndexOptions, index_digest
from retrieveall.retrieval.neighbours import PARTS, NeighbourStatistics, merge_parts, write_part
from retrieveall.retrieval.rows import context_table, entity_table, shard_ranges
from retrieveall.retrieval.shards import build_shard
from retrieveall.storage import Store
from retrieveall.types import Sentence, Span

GRANULARITIES = ("context", "entity")
SENTENCES_PER_PART = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexRequest:
    """Which index is wanted.

    Attributes:
        language: Of the corpus.
        corpus: Its name, for people.
        corpus_digest: Digest of its content.
        spec: The embedder.
        embedder_digest: Its digest.
        options: How the index is cut and searched.
    """

    language: str
    corpus: str
    corpus_digest: str
    spec: EmbedderSpec
    embedder_digest: str
    options: IndexOptions

    @property
    def digest(self) -> str:
        """The digest that names the index."""
        return index_digest(
            language=self.language,
            corpus_digest=self.corpus_digest,
            embedder_digest=self.embedder_digest,
            options=self.options,
        )

    @property
    def path(self) -> str:
        """The index's folder, relative to the store of indexes."""
        return f"{self.language}/{self.digest}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """One shard file to make: its rows stand at ``{request.path}/{granularity}/{name}.arrow``."""

    request: IndexRequest
    granularity: str
    name: str

    @property
    def stem(self) -> str:
        """Path of the shard's files without their extension."""
        return f"{self.request.path}/{self.granularity}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PartTask:
    """One range of training sentences whose neighbours are wanted."""

    request: IndexRequest
    number: int
    first_row: int
    last_row: int

    @property
    def path(self) -> str:
        """The part's file."""
        return f"{self.request.path}/{PARTS}/part-{self.number:05d}.parquet"


def is_finished(store: Store, request: IndexRequest) -> bool:
    """Tells whether the index stands there, complete."""
    return store.exists(f"{request.path}/{MANIFEST}")


def plan_rows(
    store: Store, request: IndexRequest, sentences: Sequence[Sentence], *, contextual: bool
) -> list[ShardTask]:
    """Writes the row files of an index and names its shards; files that are there are kept.

    Args:
        store: The folder of all indexes.
        request: Which index.
        sentences: Its training split, in corpus order.
        contextual: Whether the embedder's mention vectors depend on the sentence.

    Raises:
        InputError: There is no sentence, or one of another language.
    """
    if not sentences:
        raise InputError(f"The corpus {request.corpus!r} has no training sentences for {request.language!r}.")
    other = {sentence.language for sentence in sentences} - {request.language}
    if other:
        raise InputError(f"Sentences of {', '.join(sorted(other))} in an index of {request.language!r}.")
    tables = {"context": context_table(sentences)}
    tables["entity"] = entity_table(sentences, per_occurrence=contextual)
    tasks = []
    for granularity in GRANULARITIES:
        store.filesystem.create_dir(store.full_path(f"{request.path}/{granularity}"), recursive=True)
        tasks += _write_rows(store, request, granularity, tables[granularity])
    return tasks


def embed_shard(store: Store, task: ShardTask, embedder: Embedder) -> bool:
    """Embeds one shard's rows and writes its vectors; returns False when they stood there already."""
    if store.exists(f"{task.stem}.faiss"):
        return False
    rows = _read_rows(store, f"{task.stem}.arrow")
    vectors = embedder.embed_texts(rows["text"].to_pylist()) if task.granularity == "context" else None
    if vectors is None:
        vectors = _embed_mentions(store, task, rows, embedder)
    store.write_bytes(f"{task.stem}.faiss", build_shard(vectors, task.request.options.kind))
    return True


def plan_parts(
    request: IndexRequest, rows: int, *, sentences_per_part: int = SENTENCES_PER_PART
) -> list[PartTask]:
    """Cuts the training sentences into ranges whose neighbours are found together."""
    return [
        PartTask(request=request, number=number, first_row=first, last_row=last)
        for number, (first, last) in enumerate(shard_ranges(rows, sentences_per_part))
    ]


def find_neighbours(store: Store, task: PartTask, embedder: Embedder) -> bool:
    """Finds and writes the neighbours of one range; returns False when they stood there already."""
    if store.exists(task.path):
        return False
    index = open_parts(store, task.request.path, task.request.digest, embedder)
    write_part(store, task.path, index, task.first_row, task.last_row)
    return True


def finish(
    store: Store,
    request: IndexRequest,
    shards: Sequence[ShardTask],
    parts: Sequence[PartTask],
    dimensions: int,
) -> IndexManifest:
    """Joins the parts into ``neighbours.parquet`` and writes the manifest, last of all."""
    rows = {
        g: sum(_count(store, f"{t.stem}.arrow") for t in shards if t.granularity == g) for g in GRANULARITIES
    }
    statistics: NeighbourStatistics = merge_parts(
        store, [part.path for part in parts], f"{request.path}/{NEIGHBOURS}"
    )
    manifest = IndexManifest(
        language=request.language,
        digest=request.digest,
        corpus=request.corpus,
        corpus_digest=request.corpus_digest,
        embedder=request.spec.to_dict(),
        embedder_digest=request.embedder_digest,
        dimensions=dimensions,
        options=request.options,
        rows=rows,
        shards={g: sum(task.granularity == g for task in shards) for g in GRANULARITIES},
        statistics=statistics.to_dict(),
    )
    store.write_json(f"{request.path}/{MANIFEST}", manifest.to_dict())
    store.remove(f"{request.path}/{PARTS}")
    return manifest


def write_index(
    store: Store, request: IndexRequest, sentences: Sequence[Sentence], embedder: Embedder
) -> IndexManifest:
    """Builds one index in this process: the same files as the Ray Data job writes."""
    if is_finished(store, request):
        return IndexManifest.from_dict(store.read_json(f"{request.path}/{MANIFEST}"))
    shards = plan_rows(store, request, sentences, contextual=embedder.contextual)
    for shard in shards:
        embed_shard(store, shard, embedder)
    parts = plan_parts(request, len(sentences))
    for part in parts:
        find_neighbours(store, part, embedder)
    return finish(store, request, shards, parts, embedder.dimensions)


def _write_rows(store: Store, request: IndexRequest, granularity: str, table: pa.Table) -> list[ShardTask]:
    tasks = []
    for number, (first, last) in enumerate(shard_ranges(len(table), request.options.rows_per_shard)):
        task = ShardTask(request=request, granularity=granularity, name=f"shard-{number:05d}")
        if not store.exists(f"{task.stem}.arrow"):
            store.write_bytes(f"{task.stem}.arrow", _arrow_bytes(table.slice(first, last - first)))
        tasks.append(task)
    return tasks


def _arrow_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def _read_rows(store: Store, path: str) -> pa.Table:
    with store.filesystem.open_input_file(store.full_path(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _count(store: Store, path: str) -> int:
    return len(_read_rows(store, path))


def _embed_mentions(store: Store, task: ShardTask, rows: pa.Table, embedder: Embedder) -> Vectors:
    """Embeds the first occurrence of each mention, inside its sentence where that matters."""
    if not embedder.contextual:
        return embedder.embed_texts(rows["mention"].to_pylist())
    texts = _source_texts(store, task)
    places = [
        (texts[sources[0]], Span(start_char=start, end_char=end))
        for sources, start, end in zip(
            *(rows[name].to_pylist() for name in ("sources", "start_char", "end_char")), strict=True
        )
    ]
    return embedder.embed_mentions([text for text, _ in places], [[span] for _, span in places])


def _source_texts(store: Store, task: ShardTask) -> list[str]:
    """The texts of all context rows of the index, by row."""
    folder = f"{task.request.path}/context"
    names = [name for name in store.list(folder) if name.endswith(".arrow")]
    return [text for name in names for text in _read_rows(store, f"{folder}/{name}")["text"].to_pylist()]
