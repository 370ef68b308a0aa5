"""`retrieveall index`: what a build may use."""

from __future__ import annotations

import pytest
import ray

from retrieveall.cli.index import IndexFlags, _resources
from retrieveall.embedding import spec_for
from retrieveall.errors import ConfigError


@pytest.mark.parametrize(
    ("embedder", "asked", "gpus"),
    [
        ("lm", None, 1.0),
        ("some/model", None, 1.0),
        ("ngram", None, 0.0),
        ("lm", 0.0, 0.0),
        ("ngram", 0.5, 0.5),
    ],
)
def test_only_embedders_with_a_model_take_a_gpu_unasked(
    monkeypatch: pytest.MonkeyPatch, embedder: str, asked: float | None, gpus: float
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 4.0})
    spec = spec_for(embedder, base_model="tiny")
    resources = _resources(IndexFlags(gpus_per_actor=asked, cpus_per_actor=2), spec)
    assert (resources.gpus_per_actor, resources.cpus_per_actor) == (gpus, 2)
    assert resources.device == ("cuda" if gpus else "cpu")


def test_without_a_gpu_a_model_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    spec = spec_for("lm", base_model="tiny")
    assert _resources(IndexFlags(), spec).gpus_per_actor == 0.0
    with pytest.raises(ConfigError, match="this machine has 0"):
        _resources(IndexFlags(gpus_per_actor=1.0), spec)
