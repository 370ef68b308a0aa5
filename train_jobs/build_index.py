"""Builds indexes with a Ray Data job: rows, vector shards, neighbours, manifests, for many languages.

A thin shell over `retrieveall.retrieval.writing`, whose steps are idempotent: what a killed job wrote
is taken up by the next, an index that is finished is not touched. Each stage is a Ray Data job over the
small tasks of all languages at once; what a dying worker had in hand is done again by another. Workers
start once and serve all stages, but an embedder with weights works in a pool of actors, which keep them.

    python -m train_jobs.build_index --workspace W --corpus panx --languages nl,de

is `retrieveall index` with the same flags.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from retrieveall.corpus import CorpusKey
from retrieveall.embedding import Embedder, EmbedderSpec, load_embedder
from retrieveall.errors import InputError, original_error
from retrieveall.retrieval.index import read_manifest
from retrieveall.retrieval.manifest import IndexManifest, IndexOptions
from retrieveall.retrieval.writing import (
    IndexRequest,
    PartTask,
    ShardTask,
    embed_shard,
    find_neighbours,
    finish,
    is_finished,
    plan_parts,
    plan_rows,
)
from retrieveall.workspace import Workspace
from train_jobs.pool import PoolResources

OnProgress = Callable[[str, int, int], None]
"""Called with the stage's name, its tasks done and its tasks in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexOutcome:
    """What became of one index.

    Attributes:
        manifest: The index's manifest.
        reused: It had been finished before.
    """

    manifest: IndexManifest
    reused: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome as JSON values."""
        return {**self.manifest.to_dict(), "reused": self.reused}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsTask:
    """Write the row files of one index."""

    request: IndexRequest
    contextual: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishTask:
    """Join the neighbours of one index and write its manifest."""

    request: IndexRequest
    shards: tuple[ShardTask, ...]
    parts: tuple[PartTask, ...]
    dimensions: int


Task: TypeAlias = RowsTask | ShardTask | PartTask | FinishTask


def build_index(
    workspace: Workspace,
    corpora: Sequence[CorpusKey],
    spec: EmbedderSpec | None = None,
    options: IndexOptions | None = None,
    resources: PoolResources | None = None,
    *,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> list[IndexOutcome]:
    """Builds the index of each corpus's training split; Ray must be initialised.

    Args:
        workspace: Where everything is read and written.
        corpora: Which corpora, from `CorpusStore.resolve`.
        spec: The embedder; default hashed n-grams.
        options: How the indexes are cut and searched.
        resources: Of the job.
        on_progress: Called after every task.

    Returns:
        One outcome per corpus, in the given order.

    Raises:
        NotFoundError: A corpus does not exist.
        InputError: A corpus has no training sentences.
        MissingDependencyError: The embedder needs a package that is not installed.
    """
    spec, options = spec or EmbedderSpec(), options or IndexOptions()
    job = _Job(workspace, spec, resources or PoolResources(), on_progress)
    requests = [_request(workspace, key, spec, options, job.embedder_digest) for key in corpora]
    missing = [request for request in requests if not is_finished(workspace.indexes, request)]
    if missing:
        job.build(missing)
    return [
        IndexOutcome(
            manifest=read_manifest(workspace.indexes, request.language, request.digest),
            reused=request not in missing,
        )
        for request in requests
    ]


class _Job:
    """The stages of one build, driven from here."""

    def __init__(
        self, workspace: Workspace, spec: EmbedderSpec, resources: PoolResources, on_progress: OnProgress
    ) -> None:
        self._workspace, self._spec, self._resources = workspace, spec, resources
        self._on_progress = on_progress
        embedder = load_embedder(spec, device="cpu")  # asked for its digest and size only
        self.embedder_digest = embedder.digest
        self._contextual, self._dimensions = embedder.contextual, embedder.dimensions

    def build(self, requests: Sequence[IndexRequest]) -> None:
        """Runs all stages for indexes that are not finished."""
        rows = [RowsTask(request=request, contextual=self._contextual) for request in requests]
        planned = self._stage("rows", rows)
        shards = [_shards(request, plan) for request, plan in zip(requests, planned, strict=True)]
        self._stage("vectors", list(chain(*shards)), embeds=True)
        counts = [plan["context_rows"] for plan in planned]
        parts = [plan_parts(request, count) for request, count in zip(requests, counts, strict=True)]
        self._stage("neighbours", list(chain(*parts)), embeds=True)
        triples = zip(requests, shards, parts, strict=True)
        self._stage("manifests", [self._last(*triple) for triple in triples])

    def _last(
        self, request: IndexRequest, shards: Sequence[ShardTask], parts: Sequence[PartTask]
    ) -> FinishTask:
        return FinishTask(
            request=request, shards=tuple(shards), parts=tuple(parts), dimensions=self._dimensions
        )

    def _stage(self, name: str, tasks: Sequence[Task], *, embeds: bool = False) -> list[Any]:
        """Runs one stage's tasks side by side; returns their results in order."""
        results: dict[int, Any] = {}
        self._on_progress(name, 0, len(tasks))
        done = self._with_actors(tasks) if embeds and self._spec.has_weights else self._with_tasks(tasks)
        try:
            for batch in done.iter_batches(batch_size=1, prefetch_batches=0):
                results[int(batch["number"][0])] = json.loads(str(batch["result"][0]))
                self._on_progress(name, len(results), len(tasks))
        except Exception as error:
            if (origin := original_error(error)) is error:
                raise
            raise origin from error
        return [results[number] for number in range(len(tasks))]

    def _with_tasks(self, tasks: Sequence[Task]) -> ray.data.Dataset:
        most = min(self._resources.pool_size(), len(tasks))
        return _rows_of(tasks).map_batches(
            work,
            batch_size=1,
            compute=TaskPoolStrategy(size=most),
            num_cpus=self._resources.cpus_per_actor,
            fn_kwargs=self._worker(device="cpu"),
        )

    def _with_actors(self, tasks: Sequence[Task]) -> ray.data.Dataset:
        most = min(self._resources.pool_size(), len(tasks))
        return _rows_of(tasks).map_batches(
            IndexWorker,
            batch_size=1,
            compute=ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=self._resources.cpus_per_actor,
            num_gpus=self._resources.gpus_per_actor or None,
            fn_constructor_kwargs=self._worker(self._resources.device),
        )

    def _worker(self, device: str) -> dict[str, Any]:
        threads = self._resources.cpus_per_actor
        return {"workspace": self._workspace, "spec": self._spec, "threads": threads, "device": device}


def _rows_of(tasks: Sequence[Task]) -> ray.data.Dataset:
    """One block for each task, so that each can go to another worker."""
    DataContext.get_current().enable_progress_bars = False
    rows = [{"number": number, "task": task} for number, task in enumerate(tasks)]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def work(batch: dict[str, np.ndarray], **worker: Any) -> dict[str, list[Any]]:
    """Does the tasks of a batch in a worker that nothing has to be loaded for; see `IndexWorker`."""
    return IndexWorker(**worker)(batch)


class IndexWorker:
    """Does the tasks that it is sent.

    Args:
        workspace: Where everything is read and written.
        spec: The embedder, loaded when a task first needs it.
        threads: Of faiss (and torch, where the embedder has a model).
        device: Where a model runs.
    """

    def __init__(self, *, workspace: Workspace, spec: EmbedderSpec, threads: int, device: str) -> None:
        _set_threads(threads, torch_too=spec.has_weights)
        self._store = workspace.indexes
        self._corpora = workspace.corpora
        self._spec, self._device = spec, device
        self._loaded: Embedder | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Does the tasks of a batch; results travel as JSON."""
        return {
            "number": list(batch["number"]),
            "result": [json.dumps(self.run(task)) for task in batch["task"]],
        }

    def run(self, task: Task) -> Any:
        """Does one task; what is there already is left alone."""
        match task:
            case RowsTask():
                return self._rows(task)
            case ShardTask():
                return embed_shard(self._store, task, self._embedder())
            case PartTask():
                return find_neighbours(self._store, task, self._embedder())
            case FinishTask(request=request, shards=shards, parts=parts, dimensions=dimensions):
                return finish(self._store, request, shards, parts, dimensions).digest

    def _embedder(self) -> Embedder:
        if self._loaded is None:
            self._loaded = load_embedder(self._spec, device=self._device)
        return self._loaded

    def _rows(self, task: RowsTask) -> dict[str, Any]:
        request = task.request
        sentences = self._corpora.load(request.corpus, request.language, "train")
        shards = plan_rows(self._store, request, sentences, contextual=task.contextual)
        return {"context_rows": len(sentences), "shards": [[task.granularity, task.name] for task in shards]}


def _request(
    workspace: Workspace, key: CorpusKey, spec: EmbedderSpec, options: IndexOptions, embedder_digest: str
) -> IndexRequest:
    manifest = workspace.corpora.manifest(key.name, key.language)
    if not manifest.sentences.get("train"):
        raise InputError(
            f"The corpus {key.name!r} has no training sentences for {key.language!r}."
            " Import a train split: `retrieveall corpus import`."
        )
    return IndexRequest(
        language=key.language,
        corpus=key.name,
        corpus_digest=manifest.digest,
        spec=spec,
        embedder_digest=embedder_digest,
        options=options,
    )


def _shards(request: IndexRequest, plan: dict[str, Any]) -> list[ShardTask]:
    return [ShardTask(request=request, granularity=g, name=name) for g, name in plan["shards"]]


def _set_threads(threads: int, *, torch_too: bool) -> None:
    import faiss

    faiss.omp_set_num_threads(threads)
    if torch_too:
        import torch

        torch.set_num_threads(threads)


if __name__ == "__main__":
    from retrieveall.cli.main import job_main

    job_main("index")
