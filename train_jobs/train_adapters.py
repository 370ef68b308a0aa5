"""Trains adapters with Ray Train: one run per language, side by side as far as the resources reach.

A thin shell over `retrieveall.training`, started by `retrieveall train`: what a run reads is named by
a `RunSpec`, its folder in ``runs/`` by language and digest of that spec. A run that was killed goes on
from its last checkpoint when the same command is given again; a finished one is not trained twice.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from retrieveall.frozen import from_dict, to_dict
from retrieveall.lora.card import AdapterCard, DevScores
from retrieveall.lora.releases import Publication
from retrieveall.prompting.codec import PROMPT_FORMAT
from retrieveall.training.adapter import AdapterTraining, Progress
from retrieveall.training.inputs import RunSpec, load_inputs
from retrieveall.training.run import Device, measure_dev, train_adapter
from retrieveall.workspace import Workspace
from train_jobs import attempts

RESULT = "result.json"
PROGRESS = "progress.json"
DEV = "dev.json"  # of a finished run's checkpoint, and of no other
_PROGRESS_SECONDS = 2.0

OnProgress = Callable[[str, int, int], None]
"""Called with a run's language, its steps done and its steps in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What each run may use.

    Attributes:
        workers_per_language: Data-parallel workers of one adapter.
        gpus_per_worker: 0 trains on the CPU.
        cpus_per_worker: CPUs and torch threads of one worker.
        max_failures: Restarts of a run whose worker died; a mistake ends it at once.
    """

    workers_per_language: int = 1
    gpus_per_worker: float = 0.0
    cpus_per_worker: int = 1
    max_failures: int = 2

    @property
    def device(self) -> Device:
        """Where a worker computes."""
        return Device(name="cuda" if self.gpus_per_worker else "cpu", threads=self.cpus_per_worker)

    @property
    def scaling(self) -> ScalingConfig:
        """The same for Ray."""
        per_worker: dict[str, float] = {"CPU": self.cpus_per_worker}
        if self.gpus_per_worker:
            per_worker["GPU"] = self.gpus_per_worker
        return ScalingConfig(
            num_workers=self.workers_per_language,
            use_gpu=bool(self.gpus_per_worker),
            resources_per_worker=per_worker,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOutcome:
    """What became of one adapter.

    Attributes:
        adapter: Its digest; None where the run failed.
        dev: Scores on dev, None where there is no dev split or the run failed.
        error: Why it failed, None where it did not.
        reused: The run had been finished before.
    """

    language: str
    run: str
    adapter: str | None = None
    index: str | None = None
    dev: DevScores | None = None
    error: str | None = None
    reused: bool = False
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome as JSON values."""
        return to_dict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """What became of all adapters of a training.

    Attributes:
        release: The release that has those which were published; None where none was.
        refused: Language to the reason why its adapter was not published; the pool keeps it.
    """

    outcomes: tuple[TrainOutcome, ...]
    release: int | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return to_dict(self)


def train_adapters(
    workspace: Workspace,
    stages: Sequence[Sequence[RunSpec]],
    resources: Resources,
    *,
    publish: bool = True,
    force: bool = False,
    on_progress: OnProgress = lambda language, done, total: None,
) -> TrainReport:
    """Trains the runs of each stage side by side and publishes what succeeded in one release.

    Ray must be initialised. A run that fails, or whose adapter is refused, does not stop the others.

    Args:
        workspace: Where everything is read and written.
        stages: From `plan_specs`.
        resources: Of each run.
        publish: Make the new adapters answer.
        force: Also where they are worse than those they replace.
        on_progress: Called about every two seconds for each run.

    Raises:
        ConflictError: Another process published at the same time (the pool keeps the adapters).
    """
    outcomes: dict[str, TrainOutcome] = {}
    for stage in stages:
        ready, stranded = _continued(stage, outcomes)
        outcomes.update((outcome.language, outcome) for outcome in stranded)
        specs = [replace(spec, workers=resources.workers_per_language) for spec in ready]
        for outcome in _run_all(workspace, specs, resources, on_progress):
            outcomes[outcome.language] = outcome
    report = TrainReport(outcomes=tuple(outcomes.values()))
    return _published(workspace, report, force) if publish else report


def _continued(
    stage: Sequence[RunSpec], outcomes: Mapping[str, TrainOutcome]
) -> tuple[list[RunSpec], list[TrainOutcome]]:
    """Gives the runs of a stage the adapters that they continue; those whose adapter failed fail too."""
    ready, stranded = [], []
    for spec in stage:
        adapter = outcomes[spec.continues].adapter if spec.continues is not None else None
        if spec.continues is None or adapter is not None:
            ready.append(replace(spec, initial_adapter=adapter))
        else:
            error = f"The run of {spec.continues!r}, which this one continues, failed. Mend that one first."
            stranded.append(TrainOutcome(language=spec.language, run=spec.run_name, error=error))
    return ready, stranded


def _run_all(
    workspace: Workspace, specs: Sequence[RunSpec], resources: Resources, on_progress: OnProgress
) -> list[TrainOutcome]:
    """Keeps as many runs under way as the cluster has room for; returns their outcomes in the given order."""
    pending = list(specs)
    waiting: dict[Any, RunSpec] = {}
    finished: dict[str, TrainOutcome] = {}
    while pending or waiting:
        while pending and len(waiting) < room_for_runs(resources, _cluster()):
            spec = pending.pop(0)
            waiting[_fit.remote(workspace, spec, resources)] = spec
        done, _ = ray.wait(list(waiting), timeout=_PROGRESS_SECONDS)
        for reference in done:
            spec = waiting.pop(reference)
            finished[spec.run_name] = _outcome_of(reference, spec)
        _tell_progress(workspace, waiting.values(), on_progress)
    return [finished[spec.run_name] for spec in specs]


def _cluster() -> Mapping[str, float]:
    total: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total


def room_for_runs(resources: Resources, cluster: Mapping[str, float]) -> int:
    """Returns how many runs fit into a cluster at once, at least one: a cluster may still grow.

    Args:
        resources: Of each run.
        cluster: Total of each resource, as ``ray.cluster_resources()`` gives it.
    """
    need = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    fits = [
        cluster.get(kind, 0.0) / (amount * resources.workers_per_language)
        for kind, amount in need.items()
        if amount
    ]
    return max(1, int(min(fits, default=1)))


def _tell_progress(workspace: Workspace, specs: Iterable[RunSpec], on_progress: OnProgress) -> None:
    for spec in specs:
        steps = _read_progress(workspace, spec)
        if steps is not None:
            on_progress(spec.language, *steps)


def _outcome_of(reference: Any, spec: RunSpec) -> TrainOutcome:
    try:
        outcome: TrainOutcome = ray.get(reference)
        return outcome
    except Exception as error:  # whatever one run dies of, the others go on
        return TrainOutcome(language=spec.language, run=spec.run_name, error=attempts.reason(error))


def _read_progress(workspace: Workspace, spec: RunSpec) -> tuple[int, int] | None:
    run = workspace.run(spec.run_name)
    if not run.exists(PROGRESS):
        return None
    values = run.read_json(PROGRESS)
    return values["step"], values["total_steps"]


def _published(workspace: Workspace, report: TrainReport, force: bool) -> TrainReport:
    """Publishes what succeeded; returns the report with what became of that."""
    wishes = [
        Publication(language=o.language, adapter=o.adapter, index=o.index)
        for o in report.outcomes
        if o.adapter is not None
    ]
    if not wishes:
        return report
    done = workspace.releases.publish_many(wishes, created_at=_now(), force=force)
    number = done.release.number if len(done.refused) < len(wishes) else None
    return replace(report, release=number, refused=done.refused)


@ray.remote(num_cpus=0, max_retries=0)
def _fit(workspace: Workspace, spec: RunSpec, resources: Resources) -> TrainOutcome:
    """Trains one run, or takes up its result, and puts the adapter into the pool."""
    started = time.monotonic()
    run = workspace.run(spec.run_name)
    if run.exists(RESULT):
        kept = from_dict(TrainOutcome, run.read_json(RESULT), source=RESULT)
        # where `gc` took the adapter, Ray Train hands out the finished run's checkpoint again
        if kept.adapter is not None and workspace.pool.has(kept.adapter):
            return replace(kept, reused=True, seconds=0.0)
    result = attempts.fit(lambda: _trainer(workspace, spec, resources), max_failures=resources.max_failures)
    checkpoint = result.checkpoint
    assert checkpoint is not None  # the loop's last report carries one
    with checkpoint.as_directory() as folder:
        outcome = _pooled(workspace, spec, Path(folder))
    outcome = replace(outcome, seconds=round(time.monotonic() - started, 1))
    run.write_json(RESULT, outcome.to_dict())
    return outcome


def _trainer(workspace: Workspace, spec: RunSpec, resources: Resources) -> TorchTrainer:
    return TorchTrainer(
        _worker_loop,
        train_loop_config={"workspace": workspace, "spec": spec, "device": resources.device},
        scaling_config=resources.scaling,
        run_config=RunConfig(
            name=spec.run_name,
            storage_path=workspace.runs.root,
            storage_filesystem=workspace.runs.filesystem,
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )


def _pooled(workspace: Workspace, spec: RunSpec, checkpoint: Path) -> TrainOutcome:
    values = json.loads((checkpoint / DEV).read_text())
    dev = from_dict(DevScores, values, source=DEV) if values else None
    digest = workspace.pool.add(checkpoint / "adapter", adapter_card(spec, dev))
    return TrainOutcome(
        language=spec.language, run=spec.run_name, adapter=digest, index=spec.index_digest, dev=dev
    )


def adapter_card(spec: RunSpec, dev: DevScores | None) -> AdapterCard:
    """Returns the card of a run's adapter."""
    render = spec.config.render
    return AdapterCard(
        language=spec.language,
        base_model=spec.base_model,
        base_digest=spec.base_digest,
        labels=spec.labels,
        corpus=spec.corpus,
        corpus_digest=spec.corpus_digest,
        created_at=_now(),
        strategy=spec.strategy,
        index_digest=spec.index_digest,
        embedder=spec.embedder,
        embedder_digest=spec.embedder_digest,
        prompt_format=PROMPT_FORMAT,
        entity_examples=render.entity_examples,
        context_examples=render.context_examples,
        threshold_std=spec.threshold_std,
        examples_in_training=spec.examples,
        dev=dev,
        synthetic=spec.synthetic,
        training={**asdict(spec.config), "train_limit": spec.train_limit},
        initial_adapter=spec.initial_adapter,
        licence=spec.licence,
    )


def _worker_loop(loop_config: dict[str, Any]) -> None:
    """What every Ray Train worker runs."""
    workspace, spec, device = loop_config["workspace"], loop_config["spec"], loop_config["device"]
    rank = ray.train.get_context().get_world_rank()
    with tempfile.TemporaryDirectory() as scratch:
        resume = _resumed(Path(scratch) / "resume")
        # a run may die after its last checkpoint, before Ray Train took note that it was the last
        done = resume is not None and (resume / DEV).exists()
        folder = resume if resume and done else Path(scratch) / "finished"
        if not done:
            _train(workspace, spec, device, folder, resume)
        ray.train.report({"finished": True}, checkpoint=_checkpoint(folder, rank))


def _resumed(folder: Path) -> Path | None:
    """Copies the run's last checkpoint, None where there is none yet."""
    checkpoint = ray.train.get_checkpoint()
    return Path(checkpoint.to_directory(folder)) if checkpoint else None


def _train(workspace: Workspace, spec: RunSpec, device: Device, folder: Path, resume: Path | None) -> None:
    """Trains; rank 0 writes the adapter and its dev scores into the folder."""
    context = ray.train.get_context()
    rank = context.get_world_rank()
    inputs = load_inputs(workspace, spec)
    train_adapter(
        spec.base_model,
        inputs.train,
        inputs.dev,
        spec.labels,
        spec.config,
        folder / "adapter",
        device=device,
        on_progress=_Reporter(workspace, spec, rank),
        resume=resume,
        initial=workspace.pool.path(spec.initial_adapter) if spec.initial_adapter else None,
        rank=rank,
        world_size=context.get_world_size(),
    )
    if rank != 0:
        return
    dev = measure_dev(
        spec.base_model,
        folder / "adapter",
        inputs.measured,
        spec.labels,
        device=device,
        budget_tokens=spec.config.render.budget_tokens,
    )
    (folder / DEV).write_text(json.dumps(to_dict(dev) if dev else None))


def _checkpoint(folder: Path, rank: int) -> Checkpoint | None:
    return Checkpoint.from_directory(folder) if rank == 0 else None


class _Reporter:
    """Saves checkpoints and leaves word of the progress, on rank 0 alone."""

    def __init__(self, workspace: Workspace, spec: RunSpec, rank: int) -> None:
        self._run = workspace.run(spec.run_name)
        self._rank = rank
        self._told_s = 0.0

    def __call__(self, training: AdapterTraining, progress: Progress) -> None:
        if self._rank == 0 and time.monotonic() - self._told_s > _PROGRESS_SECONDS:
            self._told_s = time.monotonic()
            self._run.write_json(PROGRESS, asdict(progress))
        if not progress.save:
            return
        with tempfile.TemporaryDirectory() as folder:
            if self._rank == 0:
                training.save(Path(folder))
            ray.train.report(
                {"step": progress.step, "loss": progress.loss, "dev_loss": progress.dev_loss},
                checkpoint=_checkpoint(Path(folder), self._rank),
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
