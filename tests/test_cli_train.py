"""What `retrieveall train` asks for and what it says; the training itself is replaced."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retrieveall.cli.main import app
from retrieveall.cli.train import TrainRequest
from retrieveall.workspace import Workspace

jobs = pytest.importorskip("train_jobs.train_adapters")

GOOD = jobs.TrainOutcome(language="de", run="de-run", adapter="a" * 16)
WORSE = jobs.TrainOutcome(language="nl", run="nl-run", adapter="b" * 16)
FAILED = jobs.TrainOutcome(language="ru", run="ru-run", error="InputError: no training sentences")


def train(
    monkeypatch: pytest.MonkeyPatch, folder: Path, report: Any, *flags: str
) -> tuple[Any, TrainRequest]:
    """Runs the command; returns its result and its request."""
    asked: list[TrainRequest] = []

    def run_training(_: Workspace, request: TrainRequest) -> Any:
        asked.append(request)
        return report

    # the package's attribute `train` is the command
    monkeypatch.setattr(importlib.import_module("retrieveall.cli.train"), "run_training", run_training)
    Workspace.open(folder, create=True)
    result = CliRunner().invoke(app, ["--workspace", str(folder), "train", *flags])
    return result, asked[0]


def test_flags_become_the_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = jobs.TrainReport(outcomes=(GOOD,), release=1)
    flags = ["--languages", "nl,de", "--rank", "16", "--epochs", "3", "--gpus-per-worker", "0.5"]
    result, request = train(monkeypatch, tmp_path, done, *flags)
    assert result.exit_code == 0
    assert request == TrainRequest(
        languages=("nl", "de"), recipe={"rank": 16, "alpha": 32, "epochs": 3}, gpus_per_worker=0.5
    )
    _, request = train(monkeypatch, tmp_path, done, "--rank", "16", "--alpha", "8", "--max-failures", "5")
    assert request == TrainRequest(recipe={"rank": 16, "alpha": 8}, max_failures=5)
    assert train(monkeypatch, tmp_path, done)[1] == TrainRequest()


@pytest.mark.parametrize(("outcomes", "code"), [((GOOD, WORSE), 3), ((GOOD, WORSE, FAILED), 1)])
def test_what_is_not_published_is_listed_and_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcomes: tuple[Any, ...], code: int
) -> None:
    report = jobs.TrainReport(outcomes=outcomes, release=2, refused={"nl": "nl: it is worse. --force"})
    shown, _ = train(monkeypatch, tmp_path, report)
    assert shown.exit_code == code
    assert "release 2\nnot published: nl: it is worse. --force\n" in shown.stdout
    as_json, _ = train(monkeypatch, tmp_path, report, "--json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["refused"] == {"nl": "nl: it is worse. --force"}
