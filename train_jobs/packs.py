"""Which adapters train together in one run, what a run may use, and how many fit into a cluster at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ray.train import ScalingConfig

from retrieveall.digests import digest_json
from retrieveall.errors import ConfigError
from retrieveall.training.inputs import RunSpec
from retrieveall.training.run import Device


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What each run may use.

    Attributes:
        workers_per_language: Data-parallel workers of one adapter.
        gpus_per_worker: 0 trains on the CPU.
        cpus_per_worker: CPUs and torch threads of one worker.
        max_failures: Restarts of a run whose worker died; a mistake ends it at once.
        pack_size: Most adapters that one run trains; fewer where there is room for more runs.

    Raises:
        ConfigError: Packs are to have several workers.
    """

    workers_per_language: int = 1
    gpus_per_worker: float = 0.0
    cpus_per_worker: int = 1
    max_failures: int = 2
    pack_size: int = 1

    def __post_init__(self) -> None:
        if self.pack_size < 1:
            raise ConfigError(f"A pack of {self.pack_size} adapters was asked for; give at least 1.")
        if self.pack_size > 1 and self.workers_per_language > 1:
            raise ConfigError(
                f"{self.workers_per_language} workers per language were asked for; a pack has one worker for"
                " all its languages. Leave out --packed or --workers-per-language."
            )

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


def packs(specs: Sequence[RunSpec], size: int, room: int = 1) -> list[tuple[RunSpec, ...]]:
    """Groups runs in their order, evenly; what is grouped alike goes on after a kill.

    Runs that ask for another data type cannot share a base with the others.

    Args:
        specs: The runs.
        size: Most runs of a group.
        room: Groups that can be trained at once; there are as many, if there are as many runs.
    """
    dtypes = dict.fromkeys(spec.config.dtype for spec in specs)
    alike = [[spec for spec in specs if spec.config.dtype == dtype] for dtype in dtypes]
    return [pack for group in alike for pack in _evenly(group, size, room)]


def _evenly(specs: Sequence[RunSpec], size: int, room: int) -> list[tuple[RunSpec, ...]]:
    count = max(math.ceil(len(specs) / size), min(room, len(specs)))
    edges = [math.ceil(len(specs) * number / count) for number in range(count + 1)]
    return [tuple(specs[start:end]) for start, end in pairwise(edges)]


def pack_name(specs: Sequence[RunSpec]) -> str:
    """Returns the name of Ray Train's run: that of the adapter where it is only one."""
    names = [spec.run_name for spec in specs]
    return names[0] if len(names) == 1 else f"pack-{digest_json(names)}"


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
