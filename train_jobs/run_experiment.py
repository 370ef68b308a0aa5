"""Runs the arms of an experiment on Ray: indexes, then training, then tests, as far as resources reach.

A thin shell over `retrieveall.experiments`, started by `retrieveall experiment run`. Training is
`train_adapters`'s, tagging and scoring `retrieveall eval`'s. Arms are taken in groups that are large enough
to keep the cluster busy; after each group its tests run side by side and every arm is kept as soon as its
test is done. What is finished, an arm, an adapter or an index, is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import ray

from retrieveall.clock import utc_now
from retrieveall.config import configured
from retrieveall.embedding import spec_for
from retrieveall.experiments.arms import ArmManifest, PlannedArm, TrainedRun, planned_arms
from retrieveall.experiments.plan import Plan
from retrieveall.retrieval import IndexOptions
from retrieveall.training.inputs import RunSpec
from retrieveall.training.run import Device
from retrieveall.workspace import Workspace
from train_jobs import attempts
from train_jobs.build_index import build_index
from train_jobs.packs import Resources, room_for_runs
from train_jobs.pool import PoolResources
from train_jobs.train_adapters import TrainOutcome, train_stages

OnProgress = Callable[[str, int, int], None]
"""Called with what is done, its steps done and its steps in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmOutcome:
    """What became of one arm with one seed.

    Attributes:
        name: ``arm-<digest>``.
        reused: It had been finished before.
        error: Why it failed, None where it did not.
    """

    title: str
    seed: int
    name: str
    reused: bool = False
    error: str | None = None

    @property
    def state(self) -> str:
        """What a table says of it."""
        return "failed" if self.error else "was there" if self.reused else "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentOutcome:
    """What became of all arms, in the plan's order."""

    arms: tuple[ArmOutcome, ...]

    @property
    def failed(self) -> tuple[ArmOutcome, ...]:
        """Those that are not finished."""
        return tuple(arm for arm in self.arms if arm.error is not None)


def run_experiment(
    workspace: Workspace,
    plan: Plan,
    base: tuple[str, str],
    resources: Resources,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
) -> ExperimentOutcome:
    """Runs what is not finished of a plan. Ray must be initialised. A failing arm stops no other.

    Args:
        workspace: Where everything is read and written.
        plan: The plan.
        base: Name and digest of the workspace's base.
        resources: Of each training run and of each test.
        on_progress: Called for arms, and for each run of `train_adapters`.

    Raises:
        NotFoundError: A corpus is missing.
        InputError: A corpus has no training sentences, or a strategy needs more languages.
        ConfigError: A field of a recipe is unknown or does not fit.
    """
    _build_indexes(workspace, plan, base[0], resources, on_progress)
    planned = planned_arms(workspace, plan, base)
    errors: dict[str, str] = {}
    reused = {one.name for one in planned if one.is_finished(workspace)}
    pending = {one.name: one for one in planned if one.name not in reused}
    total, done = len(reused) + len(pending), len(reused)
    on_progress("arms", done, total)
    wanted = room_for_runs(resources, ray.cluster_resources()) * resources.pack_size  # type: ignore[no-untyped-call]
    for group in groups(list(pending.values()), wanted):
        outcomes = train_stages(workspace, merged_stages(group), resources, on_progress=on_progress)
        for name, error in _tested(workspace, group, outcomes, resources):
            if error is not None:
                errors[name] = error
            done += 1
            on_progress("arms", done, total)
    return ExperimentOutcome(
        arms=tuple(
            ArmOutcome(
                title=one.title,
                seed=one.seed,
                name=one.name,
                reused=one.name in reused,
                error=errors.get(one.name),
            )
            for one in planned
        )
    )


def groups(arms: Sequence[PlannedArm], runs: int) -> Iterator[list[PlannedArm]]:
    """Yields arms in their order, together as many as have so many runs to begin with."""
    group: list[PlannedArm] = []
    for arm in arms:
        group.append(arm)
        if len({spec.run_name for one in group for spec in one.stages[0]}) >= runs:
            yield group
            group = []
    if group:
        yield group


def merged_stages(arms: Sequence[PlannedArm]) -> list[list[RunSpec]]:
    """Returns the stages of several arms, all first ones together, then all second ones, and so on."""
    columns = zip_longest(*(arm.stages for arm in arms), fillvalue=())
    return [[spec for stage in column for spec in stage] for column in columns]


def _build_indexes(
    workspace: Workspace, plan: Plan, base_model: str, resources: Resources, on_progress: OnProgress
) -> None:
    """Builds the indexes of every embedder that an arm names; those that are there are left alone."""
    options = configured(IndexOptions, workspace.settings().shards, source="settings of shards")
    keys = workspace.corpora.resolve(plan.corpus, plan.languages)
    for embedder in sorted({plan.arm(name).embedder for name in plan.arms}):
        spec = spec_for(embedder, base_model=base_model)
        gpus = resources.gpus_per_worker if spec.has_weights else 0.0
        pool = PoolResources(cpus_per_actor=resources.cpus_per_worker, gpus_per_actor=gpus)
        build_index(workspace, keys, spec, options, pool, on_progress=on_progress)


def _tested(
    workspace: Workspace,
    group: Sequence[PlannedArm],
    outcomes: Mapping[str, TrainOutcome],
    resources: Resources,
) -> Iterator[tuple[str, str | None]]:
    """Tests the arms of a group side by side; yields name and error of each, as it is done."""
    waiting = {}
    for arm in group:
        mine = [(spec, outcomes[spec.run_name]) for stage in arm.stages for spec in stage]
        lost = [outcome for _, outcome in mine if outcome.adapter is None]
        if lost:
            yield arm.name, f"{lost[0].language}: {lost[0].error}"
            continue
        made = {spec.run_name: str(outcome.adapter) for spec, outcome in mine}
        runs = [
            TrainedRun(
                run=outcome.run,
                adapter=str(outcome.adapter),
                languages=spec.train_languages,
                tokens=outcome.tokens,
            )
            for spec, outcome in mine
        ]
        task = _test.options(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker)
        waiting[task.remote(workspace, arm, runs, arm.adapters(made), resources.device)] = arm.name
    while waiting:
        (reference,), _ = ray.wait(list(waiting), num_returns=1)
        yield waiting.pop(reference), _error_of(reference)


def _error_of(reference: Any) -> str | None:
    try:
        ray.get(reference)
    except Exception as error:  # whatever one test dies of, the others go on
        return attempts.reason(error)
    return None


@ray.remote(max_retries=1)
def _test(
    workspace: Workspace,
    arm: PlannedArm,
    runs: Sequence[TrainedRun],
    adapters: Mapping[str, str],
    device: Device,
) -> ArmManifest:
    """Tests one arm and keeps it."""
    report = arm.test(workspace, adapters, device)
    return arm.keep(workspace, report, runs, adapters, created_at=utc_now())
