"""A worker trains a pack, goes on from its last checkpoint, and says how each adapter ended; without Ray."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from retrieveall.training.inputs import RunSpec
from retrieveall.training.run import Device
from retrieveall.workspace import Workspace
from tests.models import save_tiny_base
from tests.test_train_jobs_train_adapters import break_corpus, make_workspace, specs

pytest.importorskip("ray")

import ray.train
from ray.train import Checkpoint

from train_jobs.train_worker import ENDINGS, train_worker


class LonelyWorker:
    def get_world_rank(self) -> int:
        return 0

    def get_world_size(self) -> int:
        return 1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_base(tmp_path_factory.mktemp("base")))


def run(
    workspace: Workspace,
    pack: list[RunSpec],
    target: Path,
    patch: pytest.MonkeyPatch,
    resume: Path | None = None,
) -> list[Path]:
    """Runs a worker and returns its checkpoints in order."""
    kept: list[Path] = []

    def report(metrics: dict[str, Any], checkpoint: Checkpoint) -> None:
        kept.append(Path(shutil.copytree(checkpoint.path, target / str(len(kept)))))

    patch.setattr(ray.train, "get_context", LonelyWorker)
    patch.setattr(
        ray.train, "get_checkpoint", lambda: None if resume is None else Checkpoint.from_directory(resume)
    )
    patch.setattr(ray.train, "report", report)
    train_worker({"task": pickle.dumps((workspace, pack, Device()))})
    return kept


def test_a_broken_corpus_fails_alone_and_a_resumed_pack_ends_alike(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, "de", "en", "es")
    break_corpus(workspace, "de")
    (pack,) = specs(workspace, base)
    names = {spec.language: spec.run_name for spec in pack}
    kept = run(workspace, pack, tmp_path / "whole", monkeypatch)
    again = run(workspace, pack, tmp_path / "again", monkeypatch, resume=kept[1])
    taken_up = run(workspace, pack, tmp_path / "taken", monkeypatch, resume=kept[-1])
    endings = json.loads((kept[-1] / ENDINGS).read_text())

    assert "arquet" in endings[names["de"]]["error"] and endings[names["de"]]["dev"] is None
    assert not (kept[-1] / names["de"]).exists()
    assert len(again) < len(kept) and len(taken_up) == 1
    for language in ("en", "es"):
        assert endings[names[language]]["error"] is None
        assert endings[names[language]]["dev"]["overall"]["sentences"] == 4
        assert (kept[1] / names[language] / "training.pt").exists()
        weights = [
            (found[-1] / names[language] / "adapter_model.safetensors").read_bytes()
            for found in (kept, again, taken_up)
        ]
        assert weights[0] == weights[1] == weights[2]


def test_where_nothing_can_be_trained_the_worker_fails(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, "de")
    break_corpus(workspace, "de")
    (pack,) = specs(workspace, base)
    with pytest.raises(Exception, match="arquet"):
        run(workspace, pack, tmp_path / "whole", monkeypatch)
