"""The training loop: adapters that are trained in one process, one step of all of them at a time.

Each adapter contributes the next batch of its own plan, and moves by its own gradients, schedule and
early stopping; what ends leaves the pack. So every adapter becomes what a pack of itself alone would
make of it, up to the rounding of sums. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retrieveall.training.adapter import AdapterTraining, Progress
from retrieveall.training.shared import SharedBase


@dataclass(frozen=True, kw_only=True, slots=True)
class PackStep:
    """What became of one step of a pack.

    Attributes:
        progress: Of the adapters that took part, by name.
        save: True when the caller should `Pack.save` now.
    """

    progress: Mapping[str, Progress]
    save: bool


class Pack:
    """One or more trainings over one base.

    Args:
        base: The base that all of them were made with.
        trainings: By names that may be folders; at least one.
    """

    def __init__(self, base: SharedBase, trainings: Mapping[str, AdapterTraining]) -> None:
        self._base = base
        self.trainings = trainings
        self._save_steps = min(training.config.save_steps for training in trainings.values())

    def run(self) -> Iterator[PackStep]:
        """Trains from where each adapter stands, yielding after every step, until all are finished."""
        steps = 0
        while running := {name: one for name, one in self.trainings.items() if not one.finished}:
            losses = self._base.backward([training.portion() for training in running.values()])
            progress = {
                name: training.take_step(loss)
                for (name, training), loss in zip(running.items(), losses, strict=True)
            }
            steps += 1
            yield PackStep(progress=progress, save=self._is_due(steps, progress))

    def _is_due(self, steps: int, progress: Mapping[str, Progress]) -> bool:
        """Small languages end their epochs often, so a save waits until all do, or one is finished."""
        return (
            steps % self._save_steps == 0
            or any(one.finished for one in progress.values())
            or all(one.ends_epoch for one in progress.values())
        )

    def save(self, folder: Path) -> None:
        """Writes everything that `load` needs to go on from here, one folder per adapter."""
        for name, training in self.trainings.items():
            training.save(folder / name)

    def load(self, folder: Path) -> None:
        """Goes back to a saved state; adapters that are not in it begin anew."""
        for name, training in self.trainings.items():
            if (folder / name).exists():
                training.load(folder / name)
