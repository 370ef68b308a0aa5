"""Trains adapters with Ray Train: one run per language or pack, side by side as far as resources reach.

A thin shell over `retrieveall.training`: what an adapter is made of is
named by a `RunSpec`, its folder in ``runs/`` by language and digest of that spec. A pack trains several
of them in one process; each keeps its own folder, outcome and card, as if it had been trained alone. A
run that was killed goes on from its last checkpoint when the same command is given again; a finished
adapter is not trained twice, however it was trained.

    python -m train_jobs.train_adapters --workspace W --corpus panx --languages nl,de

is `retrieveall train` with the same flags.
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from retrieveall.clock import utc_now
from retrieveall.errors import RetrieveAllError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.lora.card import DevScores
from retrieveall.lora.releases import Publication
from retrieveall.training.cards import adapter_card
from retrieveall.training.inputs import RunSpec
from retrieveall.training.remeasure import as_published
from retrieveall.training.run import Measured
from retrieveall.workspace import Workspace
from train_jobs import attempts
from train_jobs.packs import Resources, pack_name, packs, room_for_runs
from train_jobs.train_worker import ENDINGS, PROGRESS, PROGRESS_SECONDS, train_worker

RESULT = "result.json"

OnProgress = Callable[[str, int, int], None]
"""Called with a run's title, its steps done and its steps in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOutcome:
    """What became of one adapter.

    Attributes:
        language: Whose it is; ``mul`` for one of several languages.
        adapter: Its digest; None where the run failed.
        dev: Scores on dev, None where there is no dev split or the run failed.
        dev_by_language: Of single languages, where there are several.
        tokens: Prompt and target tokens that it was trained on; None where the run failed.
        error: Why it failed, None where it did not.
        reused: The run had been finished before.
        seconds: Of the run, in a pack of all its adapters together.
    """

    language: str
    run: str
    adapter: str | None = None
    dev: DevScores | None = None
    dev_by_language: Mapping[str, DevScores] = field(default_factory=dict)
    tokens: int | None = None
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
    outcomes = train_stages(workspace, stages, resources, on_progress=on_progress)
    report = TrainReport(outcomes=tuple(outcomes.values()))
    if not publish:
        return report
    release = workspace.releases.current()
    wishes = [
        Publication(
            language=language,
            adapter=as_published(workspace, release, language, adapter),
            index=spec.data[language].index,
        )
        for stage in stages
        for spec in stage
        if (adapter := outcomes[spec.run_name].adapter) is not None
        for language in spec.serves
    ]
    return _published(workspace, report, wishes, force)


def train_stages(
    workspace: Workspace,
    stages: Sequence[Sequence[RunSpec]],
    resources: Resources,
    *,
    on_progress: OnProgress = lambda language, done, total: None,
) -> dict[str, TrainOutcome]:
    """Trains the runs of each stage side by side; a run that is there twice is trained once.

    Ray must be initialised. Arguments are those of `train_adapters`; nothing is published.

    Returns:
        Outcomes by the names that the runs were planned with.
    """
    outcomes: dict[str, TrainOutcome] = {}
    for stage in stages:
        ready: dict[str, RunSpec] = {}
        for spec in stage:
            begun = _begun(spec, outcomes)
            if isinstance(begun, TrainOutcome):
                outcomes[spec.run_name] = begun
            else:
                ready[spec.run_name] = begun
        done = _run_all(workspace, list(ready.values()), resources, on_progress)
        outcomes.update(zip(ready, done, strict=True))
    return outcomes


def _begun(spec: RunSpec, outcomes: Mapping[str, TrainOutcome]) -> RunSpec | TrainOutcome:
    """Gives a run the adapter that it continues; where that one failed, this one has failed too."""
    if spec.continues is None:
        return spec
    before = outcomes[spec.continues]
    if before.adapter is None:
        return _failed(spec, f"The run {before.run}, which this one continues, failed. Mend that one first.")
    return replace(spec, initial_adapter=before.adapter)


def _run_all(
    workspace: Workspace, specs: Sequence[RunSpec], resources: Resources, on_progress: OnProgress
) -> list[TrainOutcome]:
    """Keeps as many runs under way as the cluster has room for; returns their outcomes in the given order."""
    kept = {spec.run_name: _kept(workspace, spec) for spec in specs}
    finished = {name: outcome for name, outcome in kept.items() if outcome is not None}
    grouped = packs(specs, resources.pack_size, room_for_runs(resources, _cluster()))
    left = (tuple(spec for spec in pack if spec.run_name not in finished) for pack in grouped)
    pending = [pack for pack in left if pack]
    waiting: dict[Any, tuple[RunSpec, ...]] = {}
    while pending or waiting:
        while pending and len(waiting) < room_for_runs(resources, _cluster()):
            pack = pending.pop(0)
            waiting[_fit.options(scheduling_strategy=_here()).remote(workspace, pack, resources)] = pack
        done, _ = ray.wait(list(waiting), timeout=PROGRESS_SECONDS)
        for reference in done:
            outcomes = _outcomes_of(reference, waiting.pop(reference))
            finished.update((outcome.run, outcome) for outcome in outcomes)
        for pack in waiting.values():
            _tell_progress(workspace, pack, on_progress)
    return [finished[spec.run_name] for spec in specs]


def _kept(workspace: Workspace, spec: RunSpec) -> TrainOutcome | None:
    """Takes up the outcome of a finished run; None where there is none, or `gc` took its adapter."""
    run = workspace.run(spec.run_name)
    if not run.exists(RESULT):
        return None
    outcome = from_dict(TrainOutcome, run.read_json(RESULT), source=RESULT)
    there = outcome.adapter is not None and workspace.pool.has(outcome.adapter)
    return replace(outcome, reused=True, seconds=0.0) if there else None


def _here() -> NodeAffinitySchedulingStrategy:
    """Keeps what watches over a run beside this process, so that another node's death only kills workers."""
    node: str = ray.get_runtime_context().get_node_id()
    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _cluster() -> Mapping[str, float]:
    total: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return total


def _tell_progress(workspace: Workspace, specs: Iterable[RunSpec], on_progress: OnProgress) -> None:
    for spec in specs:
        steps = _read_progress(workspace, spec)
        if steps is not None:
            on_progress(spec.title, *steps)


def _outcomes_of(reference: Any, specs: Sequence[RunSpec]) -> list[TrainOutcome]:
    try:
        outcomes: list[TrainOutcome] = ray.get(reference)
        return outcomes
    except Exception as error:  # whatever one run dies of, the others go on
        return [_failed(spec, attempts.reason(error)) for spec in specs]


def _failed(spec: RunSpec, error: str) -> TrainOutcome:
    return TrainOutcome(language=spec.language, run=spec.run_name, error=error)


def _read_progress(workspace: Workspace, spec: RunSpec) -> tuple[int, int] | None:
    run = workspace.run(spec.run_name)
    if not run.exists(PROGRESS):
        return None
    values = run.read_json(PROGRESS)
    return values["step"], values["total_steps"]


def _published(
    workspace: Workspace, report: TrainReport, wishes: Sequence[Publication], force: bool
) -> TrainReport:
    """Publishes what succeeded; returns the report with what became of that."""
    if not wishes:
        return report
    done = workspace.releases.publish_many(wishes, created_at=utc_now(), force=force)
    number = done.release.number if len(done.refused) < len(wishes) else None
    return replace(report, release=number, refused=done.refused)


@ray.remote(num_cpus=0, max_retries=0)
def _fit(workspace: Workspace, specs: Sequence[RunSpec], resources: Resources) -> list[TrainOutcome]:
    """Trains a pack, or takes up its last checkpoint, and puts the adapters into the pool."""
    started = time.monotonic()
    name = pack_name(specs)
    result = attempts.fit(lambda: _trainer(workspace, specs, resources), max_failures=resources.max_failures)
    checkpoint = result.checkpoint
    assert checkpoint is not None  # the loop's last report carries one
    with checkpoint.as_directory() as folder:
        outcomes = [_pooled(workspace, spec, Path(folder)) for spec in specs]
    seconds = round(time.monotonic() - started, 1)
    outcomes = [replace(outcome, seconds=seconds) for outcome in outcomes]
    for outcome in outcomes:
        if outcome.error is None:
            workspace.run(outcome.run).write_json(RESULT, outcome.to_dict())
    if len(specs) > 1:
        # Ray Train would hand out this checkpoint again, with the failures of those that failed
        workspace.runs.remove(name)
    return outcomes


def _trainer(workspace: Workspace, specs: Sequence[RunSpec], resources: Resources) -> TorchTrainer:
    return TorchTrainer(
        train_worker,
        train_loop_config={"task": pickle.dumps((workspace, specs, resources.device))},
        scaling_config=resources.scaling,
        run_config=RunConfig(
            name=pack_name(specs),
            storage_path=workspace.runs.root,
            storage_filesystem=workspace.runs.filesystem,
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )


def _pooled(workspace: Workspace, spec: RunSpec, checkpoint: Path) -> TrainOutcome:
    ending = json.loads((checkpoint / ENDINGS).read_text())[spec.run_name]
    if ending["error"] is not None:
        return _failed(spec, ending["error"])
    dev = from_dict(Measured, ending["dev"], source=ENDINGS) if ending["dev"] else Measured()
    spec = replace(spec, prior_indexes=ending.get("prior_indexes", {}))  # of this run, when it was measured
    try:
        digest = workspace.pool.add(checkpoint / spec.run_name, adapter_card(spec, dev, created_at=utc_now()))
    except RetrieveAllError as error:  # such as weights that are no numbers
        return _failed(spec, attempts.reason(error))
    return TrainOutcome(
        language=spec.language,
        run=spec.run_name,
        adapter=digest,
        dev=dev.overall,
        dev_by_language=dev.by_language,
        tokens=ending["tokens"],
    )


if __name__ == "__main__":
    from retrieveall.cli.main import job_main

    job_main("train")
