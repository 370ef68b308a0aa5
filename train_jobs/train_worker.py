"""What a worker of Ray Train does: it trains a pack, measures each adapter and says how each one ended.

The driver's side is `train_jobs.train_adapters`.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint

from retrieveall.frozen import to_dict
from retrieveall.training.inputs import RunSpec, TrainingInputs, load_inputs
from retrieveall.training.pack import Pack, PackStep
from retrieveall.training.run import (
    AdapterTask,
    Candidate,
    Device,
    Measured,
    Trained,
    measure_dev,
    train_pack,
)
from retrieveall.workspace import Workspace
from train_jobs.attempts import reason

PROGRESS = "progress.json"
ENDINGS = "endings.json"  # of a finished run's checkpoint, and of no other
PROGRESS_SECONDS = 2.0


def train_worker(loop_config: dict[str, Any]) -> None:
    """What every Ray Train worker runs.

    Args:
        loop_config: ``task`` is the pickled workspace, specs and device: Ray Train's controller gets this,
            too, and would import torch and peft, seconds of a CPU, only to read it.
    """
    workspace, specs, device = pickle.loads(loop_config["task"])
    rank = ray.train.get_context().get_world_rank()
    with tempfile.TemporaryDirectory() as scratch:
        resume = _resumed(Path(scratch) / "resume")
        # a run may die after its last checkpoint, before Ray Train took note that it was the last
        done = resume is not None and (resume / ENDINGS).exists()
        folder = resume if resume and done else Path(scratch) / "finished"
        if not done:
            _train(workspace, specs, device, folder, resume)
        ray.train.report({"finished": True}, checkpoint=_checkpoint(folder, rank))


def _resumed(folder: Path) -> Path | None:
    """Copies the run's last checkpoint, None where there is none yet."""
    checkpoint = ray.train.get_checkpoint()
    return Path(checkpoint.to_directory(folder)) if checkpoint else None


def _train(
    workspace: Workspace, specs: Sequence[RunSpec], device: Device, folder: Path, resume: Path | None
) -> None:
    """Trains; rank 0 writes each adapter, and how it ended, into the folder.

    Raises:
        Exception: No adapter could be trained; this is why the first one could not.
    """
    context = ray.train.get_context()
    by_name = {spec.run_name: spec for spec in specs}
    loaded = {name: _loaded(workspace, spec) for name, spec in by_name.items()}
    inputs = {name: one for name, one in loaded.items() if not isinstance(one, Exception)}
    trained = train_pack(
        specs[0].base_model,
        {name: _task(workspace, by_name[name], one) for name, one in inputs.items()},
        folder,
        device=device,
        on_step=_Reporter(workspace, context.get_world_rank()),
        resume=resume,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )
    ready = {name: one for name, one in trained.items() if isinstance(one, Trained)}
    failed = {name: one for name, one in {**loaded, **trained}.items() if isinstance(one, Exception)}
    if context.get_world_rank() == 0:
        scores = measure_dev(
            specs[0].base_model,
            {
                name: Candidate(adapter=one.folder, dev=inputs[name].measured, labels=by_name[name].labels)
                for name, one in ready.items()
            },
            device=device,
            budget_tokens=specs[0].config.render.budget_tokens,
        )
        failed |= {name: score for name, score in scores.items() if isinstance(score, Exception)}
        endings = {
            name: _ending(spec, failed.get(name), scores.get(name), ready.get(name))
            for name, spec in by_name.items()
        }
    if len(failed) == len(specs):
        raise next(iter(failed.values()))
    if context.get_world_rank() == 0:
        (folder / ENDINGS).write_text(json.dumps(endings))


def _loaded(workspace: Workspace, spec: RunSpec) -> TrainingInputs | Exception:
    try:
        return load_inputs(workspace, spec)
    except Exception as error:  # a corpus that cannot be read is no fault of the pack's other languages
        return error


def _task(workspace: Workspace, spec: RunSpec, inputs: TrainingInputs) -> AdapterTask:
    initial = workspace.pool.path(spec.initial_adapter) if spec.initial_adapter else None
    return AdapterTask(
        train=inputs.train, dev=inputs.dev, labels=spec.labels, config=spec.config, initial=initial
    )


def _ending(
    spec: RunSpec, error: Exception | None, dev: Measured | Exception | None, trained: Trained | None
) -> dict[str, Any]:
    """Returns how a run ended, as JSON values, with the priors that its scores were reached with."""
    scores = to_dict(dev) if isinstance(dev, Measured) else None
    tokens = trained.tokens if trained else None
    return {
        "error": reason(error) if error else None,
        "dev": scores,
        "tokens": tokens,
        "prior_indexes": dict(spec.prior_indexes),
    }


def _checkpoint(folder: Path, rank: int) -> Checkpoint | None:
    return Checkpoint.from_directory(folder) if rank == 0 else None


class _Reporter:
    """Saves checkpoints and leaves word of the progress, on rank 0 alone."""

    def __init__(self, workspace: Workspace, rank: int) -> None:
        self._workspace = workspace
        self._rank = rank
        self._told_s = 0.0

    def __call__(self, pack: Pack, step: PackStep) -> None:
        progress = {name: asdict(one) for name, one in step.progress.items()}
        if self._rank == 0 and time.monotonic() - self._told_s > PROGRESS_SECONDS:
            self._told_s = time.monotonic()
            for name, values in progress.items():
                self._workspace.run(name).write_json(PROGRESS, values)
        if not step.save:
            return
        with tempfile.TemporaryDirectory() as folder:
            if self._rank == 0:
                pack.save(Path(folder))
            ray.train.report(progress, checkpoint=_checkpoint(Path(folder), self._rank))
