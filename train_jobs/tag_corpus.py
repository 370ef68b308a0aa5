"""Tags a large input with a Ray Data job: an actor pool of taggers, one output file per fragment.

A thin shell over `retrieveall.offline`: what a killed job wrote is left as it is, the next start of the
same job does the rest. An actor that dies is replaced and its fragments are done again.

    python -m train_jobs.tag_corpus --workspace W --input texts.jsonl --output tagged

is `retrieveall tag` with the same flags.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from retrieveall.errors import InputError, original_error
from retrieveall.lora.card import PRIOR_FORMAT
from retrieveall.offline.fragments import FilePlan, Fragment
from retrieveall.offline.inputs import Inputs, find_inputs
from retrieveall.offline.job import FragmentTagger, TagJob, begin, finished, job_schema, recorded_release
from retrieveall.offline.options import TagOptions
from retrieveall.offline.page import write_summary
from retrieveall.offline.planning import plan_file
from retrieveall.offline.progress import ProgressCounter, TagProgress
from retrieveall.offline.statistics import Statistics
from retrieveall.offline.summary import TagSummary, all_statistics, count_files
from retrieveall.opening import OpenOptions, open_tagger, read_release
from retrieveall.storage import Store
from retrieveall.workspace import Workspace
from train_jobs.pool import PoolResources

OnProgress = Callable[[TagProgress], None]
"""Called once before the first fragment and after each."""

FRAGMENTS_AT_ONCE = 2  # per actor: their rows meet in the engine, whose batches never run dry in between


@dataclass(frozen=True, kw_only=True, slots=True)
class TagRequest:
    """What is to be tagged, and where to.

    Attributes:
        input: A file or a folder; a local path or any pyarrow filesystem URI.
        output: A folder of this job's own, likewise.
        options: How.
        release: Number of the release; None for that of the job that began in `output`, else the current.
    """

    input: str
    output: str
    options: TagOptions
    release: int | None = None


def tag_corpus(
    workspace: Workspace,
    request: TagRequest,
    resources: PoolResources | None = None,
    *,
    on_progress: OnProgress = lambda progress: None,
) -> TagSummary:
    """Tags an input; Ray must be initialised. What an earlier run of the same job finished is kept.

    Args:
        workspace: Whose release tags.
        request: What and where to.
        resources: Of the job.
        on_progress: Called after every fragment.

    Returns:
        Counts over the whole input; also written to the output, as JSON and HTML.

    Raises:
        NotFoundError: There is no such input or release.
        InputError: A file cannot be read as its format or lacks a column, or it changed meanwhile.
        ConflictError: Another job began in the output.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
    """
    inputs = find_inputs(request.input, request.options.format)
    output = Store.open(request.output, create=True)
    _check_apart(inputs, output)
    release = request.release if request.release is not None else recorded_release(output)
    opened = read_release(workspace, OpenOptions(release=release))
    options = _resolved(workspace, request.options)
    plans = _plan(inputs, options)
    job = TagJob(
        inputs=inputs.store,
        output=output,
        options=options,
        release=opened.release.number,
        pinned={
            "release": opened.release.to_dict(),
            "settings": _settings(workspace),
            "prior_format": PRIOR_FORMAT,
        },
        schema=job_schema(plans),
    )
    begin(job)
    return _Run(workspace, job, resources or PoolResources(), on_progress).run(plans, inputs.ignored)


def _check_apart(inputs: Inputs, output: Store) -> None:
    if inputs.is_folder and f"{output.root}/".startswith(f"{inputs.store.root}/"):
        raise InputError(
            f"The output {output.uri!r} lies in the input's folder {inputs.store.uri!r}: it would be read as"
            " input. Give an --output elsewhere."
        )


def _resolved(workspace: Workspace, options: TagOptions) -> TagOptions:
    """Fixes what the workspace's settings, which may change, would decide."""
    return replace(options, routing=options.routing or workspace.settings().retrieval.routing)


def _settings(workspace: Workspace) -> dict[str, Any]:
    """Returns the settings that change entities."""
    settings = workspace.settings().to_dict()
    return {section: settings[section] for section in ("prompt", "retrieval")}


def _plan(inputs: Inputs, options: TagOptions) -> list[FilePlan]:
    """Reads all files once, side by side."""
    plan: Any = ray.remote(plan_file)
    try:
        plans: list[FilePlan] = ray.get([plan.remote(inputs.store, file, options) for file in inputs.files])
    except Exception as error:
        if (origin := original_error(error)) is error:
            raise
        raise origin from error
    return plans


class _Run:
    """One run of a job, driven from here."""

    def __init__(
        self, workspace: Workspace, job: TagJob, resources: PoolResources, on_progress: OnProgress
    ) -> None:
        self._workspace, self._job, self._resources = workspace, job, resources
        self._on_progress = on_progress

    def run(self, plans: Sequence[FilePlan], ignored: tuple[str, ...]) -> TagSummary:
        """Does what is missing and writes the summary."""
        fragments = [fragment for plan in plans for fragment in plan.fragments]
        there = finished(self._job, fragments)
        missing = [fragment for fragment in fragments if self._job.path(fragment) not in there]
        total, left = (sum(fragment.rows for fragment in some) for some in (fragments, missing))
        started_s = time.monotonic()
        progress = self._tag(missing, ProgressCounter(total, total - left))
        summary = TagSummary(
            job=self._job.record,
            output=self._job.output.uri,
            files=count_files(plans),
            ignored=ignored,
            statistics=all_statistics(self._job, [self._job.path(fragment) for fragment in fragments]),
            reused_rows=total - left,
            seconds=round(time.monotonic() - started_s, 1),
            rows_per_s=progress.rows_per_s,
        )
        write_summary(self._job.output, summary)
        return summary

    def _tag(self, fragments: Sequence[Fragment], counter: ProgressCounter) -> TagProgress:
        self._on_progress(counter.now())
        if fragments:
            try:
                for batch in self._dataset(fragments).iter_batches(batch_size=1, prefetch_batches=0):
                    counter.add(Statistics.from_dict(json.loads(str(batch["statistics"][0]))))
                    self._on_progress(counter.now())
            except Exception as error:
                if (origin := original_error(error)) is error:
                    raise
                raise origin from error
        return counter.now()

    def _dataset(self, fragments: Sequence[Fragment]) -> ray.data.Dataset:
        DataContext.get_current().enable_progress_bars = False
        items = [{"fragment": json.dumps(fragment.to_dict())} for fragment in fragments]
        most = min(self._resources.pool_size(), len(items))
        return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            TagWorker,
            batch_size=1,
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=most,
                max_concurrent_calls_per_actor=FRAGMENTS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_cpus=self._resources.cpus_per_actor,
            num_gpus=self._resources.gpus_per_actor or None,
            fn_constructor_kwargs={
                "workspace": self._workspace,
                "job": self._job,
                "threads": self._resources.cpus_per_actor,
                "device": self._resources.device,
            },
        )


class TagWorker:
    """An actor of the pool: a tagger of the job's release, and the fragments that it is sent.

    Args:
        workspace: Whose release tags.
        job: What is to be done.
        threads: Of torch and faiss.
        device: Where the model is.
    """

    def __init__(self, *, workspace: Workspace, job: TagJob, threads: int, device: str) -> None:
        faiss.omp_set_num_threads(threads)
        options = OpenOptions(
            release=job.release,
            routing=job.options.routing,
            examples=job.options.examples,
            threads=threads,
            device=device,
        )
        self._opened = open_tagger(workspace, options)
        self._tagger = FragmentTagger(job, self._opened.tagger)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Tags the fragments of a batch; fragments and counts travel as JSON."""
        fragments = [Fragment.from_dict(json.loads(str(text))) for text in batch["fragment"]]
        return {"statistics": [json.dumps(self._tagger.run(fragment).to_dict()) for fragment in fragments]}


if __name__ == "__main__":
    from retrieveall.cli.main import job_main

    job_main("tag")
