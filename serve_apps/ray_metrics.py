"""The metrics on Ray: Prometheus reads them at the metrics port of each node."""

from __future__ import annotations

from typing import Any

from ray.serve import metrics as ray_metrics

from serve_apps.metrics import CATALOGUE, Metric


class RayRecorder:
    """Records into Ray's metrics, with the tags of the replica that it is made in."""

    def __init__(self) -> None:
        self._made = {metric.name: _made(metric) for metric in CATALOGUE}

    def record(self, metric: Metric, value: float, **tags: str) -> None:
        """Adds to a counter, sets a gauge, or observes a value."""
        made = self._made[metric.name]
        if metric.kind == "gauge":
            made.set(value, tags=tags)
        elif metric.kind == "histogram":
            made.observe(value, tags=tags)
        elif value > 0:  # Ray refuses to add nothing
            made.inc(value, tags=tags)


def _made(metric: Metric) -> Any:
    tags: Any = metric.tags  # Ray declares a tuple of one
    if metric.kind == "histogram":
        bounds = list(metric.buckets)
        return ray_metrics.Histogram(metric.name, metric.text, boundaries=bounds, tag_keys=tags)
    kinds = {"counter": ray_metrics.Counter, "gauge": ray_metrics.Gauge}
    return kinds[metric.kind](metric.name, metric.text, tag_keys=tags)
