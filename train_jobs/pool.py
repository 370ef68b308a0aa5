"""What the Ray Data jobs share: the size of their actor pools."""

from __future__ import annotations

from dataclasses import dataclass

import ray


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolResources:
    """What a job may use.

    Attributes:
        actors: Most actors; None takes as many as the cluster's CPUs (or GPUs) hold.
        cpus_per_actor: CPUs of one actor, and its threads.
        gpus_per_actor: For actors with a model.
    """

    actors: int | None = None
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0

    @property
    def device(self) -> str:
        """Where an actor's model is: an actor without GPUs of its own leaves those of others alone."""
        return "cuda" if self.gpus_per_actor else "cpu"

    def pool_size(self) -> int:
        """Returns the size of the actor pool on this cluster."""
        if self.actors is not None:
            return max(1, self.actors)
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        by_cpu = int(there.get("CPU", 1) // self.cpus_per_actor)
        by_gpu = int(there.get("GPU", 0) // self.gpus_per_actor) if self.gpus_per_actor else by_cpu
        return max(1, min(by_cpu, by_gpu))
