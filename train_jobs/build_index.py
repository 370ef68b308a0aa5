"""Builds indexes with a Ray Data job: rows, vector shards, neighbours, manifests, for many languages.

A thin shell over `retrieveall.retrieval.writing`, whose steps are idempotent: what a killed job wrote
is taken up by the next, an index that is finished is not touched. Each stage is a Ray Data job over
small tasks in an actor pool; an actor that dies is replaced and its task done again.

    python -m train_jobs.build_index --workspace W --corpus panx --languages nl,de
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from retrieveall.corpus import CorpusKey
from retrieveall.embedding import EmbedderSpec, load_embedder, spec_for
from retrieveall.errors import InputError, RetrieveAllError
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

OnProgress = Callable[[str, int, int], None]
"""Called with the stage's name, its tasks done and its tasks in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexResources:
    """What the job may use.

    Attributes:
        actors: Most actors; None takes as many as the cluster's CPUs (or GPUs) hold.
        cpus_per_actor: CPUs of one actor, and its threads.
        gpus_per_actor: For embedders with a model.
    """

    actors: int | None = None
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0

    def pool_size(self) -> int:
        """Returns the size of the actor pool on this cluster."""
        if self.actors is not None:
            return max(1, self.actors)
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        by_cpu = int(there.get("CPU", 1) // self.cpus_per_actor)
        by_gpu = int(there.get("GPU", 0) // self.gpus_per_actor) if self.gpus_per_actor else by_cpu
        return max(1, min(by_cpu, by_gpu))


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


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishTask:
    """Join the neighbours of one index and write its manifest."""

    request: IndexRequest
    shards: tuple[ShardTask, ...]
    parts: tuple[PartTask, ...]


Task: TypeAlias = RowsTask | ShardTask | PartTask | FinishTask


def build_index(
    workspace: Workspace,
    corpora: Sequence[CorpusKey],
    spec: EmbedderSpec | None = None,
    options: IndexOptions | None = None,
    resources: IndexResources | None = None,
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
    job = _Job(workspace, spec, resources or IndexResources(), on_progress)
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
        self, workspace: Workspace, spec: EmbedderSpec, resources: IndexResources, on_progress: OnProgress
    ) -> None:
        self._workspace, self._spec, self._resources = workspace, spec, resources
        self._on_progress = on_progress
        self.embedder_digest = load_embedder(spec).digest

    def build(self, requests: Sequence[IndexRequest]) -> None:
        """Runs all stages for indexes that are not finished."""
        planned = self._stage("rows", [RowsTask(request=request) for request in requests])
        shards = [_shards(request, plan) for request, plan in zip(requests, planned, strict=True)]
        self._stage("vectors", [task for tasks in shards for task in tasks])
        rows = [plan["context_rows"] for plan in planned]
        parts = [plan_parts(request, count) for request, count in zip(requests, rows, strict=True)]
        self._stage("neighbours", [task for tasks in parts for task in tasks])
        triples = zip(requests, shards, parts, strict=True)
        self._stage(
            "manifests", [FinishTask(request=r, shards=tuple(s), parts=tuple(p)) for r, s, p in triples]
        )

    def _stage(self, name: str, tasks: Sequence[Task]) -> list[Any]:
        """Runs one stage's tasks in an actor pool; returns their results in order."""
        results: dict[int, Any] = {}
        self._on_progress(name, 0, len(tasks))
        try:
            for batch in self._dataset(tasks).iter_batches(batch_size=1, prefetch_batches=0):
                results[int(batch["number"][0])] = json.loads(str(batch["result"][0]))
                self._on_progress(name, len(results), len(tasks))
        except Exception as error:
            raise _ours(error) from error
        return [results[number] for number in range(len(tasks))]

    def _dataset(self, tasks: Sequence[Task]) -> ray.data.Dataset:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        numbers = ray.data.from_items(
            [{"number": number} for number in range(len(tasks))], override_num_blocks=len(tasks)
        )
        most = min(self._resources.pool_size(), len(tasks))
        return numbers.map_batches(
            IndexWorker,
            batch_size=1,
            compute=ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=self._resources.cpus_per_actor,
            num_gpus=self._resources.gpus_per_actor or None,
            fn_constructor_kwargs={
                "workspace": self._workspace,
                "spec": self._spec,
                "tasks": tuple(tasks),
                "threads": self._resources.cpus_per_actor,
                "device": "cuda" if self._resources.gpus_per_actor else "cpu",
            },
        )


class IndexWorker:
    """An actor of the pool: does the tasks whose numbers it is sent.

    Args:
        workspace: Where everything is read and written.
        spec: The embedder.
        tasks: All tasks of the stage.
        threads: Of faiss (and torch, where the embedder has a model).
        device: Where a model runs.
    """

    def __init__(
        self, *, workspace: Workspace, spec: EmbedderSpec, tasks: Sequence[Task], threads: int, device: str
    ) -> None:
        _set_threads(threads, torch_too=spec.name != "ngram")
        self._store = workspace.indexes
        self._corpora = workspace.corpora
        self._embedder = load_embedder(spec, device=device)
        self._tasks = tasks

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Does the tasks of a batch; results travel as JSON."""
        numbers = [int(number) for number in batch["number"]]
        return {
            "number": numbers,
            "result": [json.dumps(self.run(self._tasks[number])) for number in numbers],
        }

    def run(self, task: Task) -> Any:
        """Does one task; what is there already is left alone."""
        match task:
            case RowsTask(request=request):
                return self._rows(request)
            case ShardTask():
                return embed_shard(self._store, task, self._embedder)
            case PartTask():
                return find_neighbours(self._store, task, self._embedder)
            case FinishTask(request=request, shards=shards, parts=parts):
                return finish(self._store, request, shards, parts, self._embedder.dimensions).digest

    def _rows(self, request: IndexRequest) -> dict[str, Any]:
        sentences = self._corpora.load(request.corpus, request.language, "train")
        shards = plan_rows(self._store, request, sentences, contextual=self._embedder.contextual)
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


def _ours(error: BaseException) -> BaseException:
    """Returns the error that a step raised on purpose, where Ray wrapped one, else the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RetrieveAllError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job from the command line; the report goes to stdout as JSON."""
    parser = argparse.ArgumentParser(prog="python -m train_jobs.build_index", description=__doc__)
    parser.add_argument("--workspace", required=True, help="path or URI")
    parser.add_argument("--corpus", help="needed where a language has more than one")
    parser.add_argument("--languages", default="", help="comma-separated; default all")
    parser.add_argument("--embedder", default="ngram", help="ngram, lm, or a sentence-transformers model")
    parser.add_argument("--base-model", help="for the embedder lm")
    parser.add_argument("--dimensions", type=int, help="of the embedder ngram")
    parser.add_argument("--kind", default="auto", help="auto, flat, ivf or hnsw")
    parser.add_argument("--rows-per-shard", type=int, default=IndexOptions().rows_per_shard)
    parser.add_argument("--actors", type=int, help="default: as many as the CPUs hold")
    given = parser.parse_args(arguments)
    workspace = Workspace.open(given.workspace)
    languages = [code for code in given.languages.split(",") if code]
    spec = spec_for(given.embedder, base_model=given.base_model or workspace.state().base_model)
    started_s = time.monotonic()
    outcomes = build_index(
        workspace,
        workspace.corpora.resolve(given.corpus, languages or None),
        replace(spec, dimensions=given.dimensions) if given.dimensions else spec,
        IndexOptions(kind=given.kind, rows_per_shard=given.rows_per_shard),
        IndexResources(actors=given.actors),
        on_progress=_print_progress,
    )
    report = {"seconds": round(time.monotonic() - started_s, 1), "indexes": [o.to_dict() for o in outcomes]}
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0


def _print_progress(stage: str, done: int, total: int) -> None:
    sys.stderr.write(f"{stage} {done}/{total}\n")


if __name__ == "__main__":
    from retrieveall.cli.process import ray_running, set_defaults

    set_defaults()
    with ray_running():
        code = main()
    sys.exit(code)
