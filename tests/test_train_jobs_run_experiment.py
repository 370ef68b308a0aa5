"""What is run of a plan, with a stand-in for Ray; and a whole plan on Ray, with a random base, twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.experiments.arms import planned_arms
from retrieveall.models.digest import base_digest
from retrieveall.workspace import Workspace
from tests.models import LABELS, save_tiny_adapter, save_tiny_base, tiny_model
from tests.stores import card
from tests.test_experiments_plan import plan
from tests.test_training_inputs import add_corpus, add_index

run_experiment = pytest.importorskip("train_jobs.run_experiment")
train_adapters = pytest.importorskip("train_jobs.train_adapters")

PLAN = """
name: tiny
corpus: sample
languages: [de, en]
test_limit: 3
dev_limit: 2
defaults: {train_limit: 12, rank: 8, recipe: {epochs: 2, batch_rows: 4, dev_rows: 2}}
arms:
  both: {}
  test-only: {examples: test}
  neither: {examples: neither}
  continued: {strategy: polyglot_then_monolingual, routing: vote}
compare: [[both, neither], [continued, both]]
"""


class Reference:
    """What a task gave, or raised."""

    def __init__(self, task: Any, *arguments: Any) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        try:
            self.value = task(*arguments)
        except Exception as error:
            self.error = error


class RayHere:
    """Ray as far as the job asks it: every task runs at once, in this process."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def options(self, **resources: float) -> RayHere:
        return self

    def remote(self, *arguments: Any) -> Reference:
        return Reference(self._task, *arguments)

    def wait(self, references: list[Reference], *, num_returns: int) -> tuple[list[Reference], Any]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Reference) -> Any:
        if reference.error is not None:
            raise reference.error
        return reference.value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


def test_finished_arms_are_left_alone_and_a_failing_one_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_tiny_base(tmp_path / "base")
    named = str(base), base_digest(base)
    workspace = Workspace.open(tmp_path / "w", create=True)
    workspace.claim_base(*named)
    add_corpus(workspace, "en", sample_corpus("en", sizes={"train": 12, "dev": 4, "test": 4}))
    index = add_index(workspace, "en")
    files = save_tiny_adapter(tmp_path / "peft", tiny_model())
    made = card("en", base_digest=named[1], labels=LABELS, index_digest=index)
    adapter = workspace.pool.add(files, made)
    trained: list[str] = []

    def train_stages(workspace: Workspace, stages: Any, resources: Any, *, on_progress: Any) -> Any:
        specs = [spec for stage in stages for spec in stage]
        trained.extend(spec.run_name for spec in specs)
        return {
            spec.run_name: train_adapters.TrainOutcome(
                language="en",
                run=spec.run_name,
                adapter={8: None, 16: "0" * 16}.get(spec.config.rank, adapter),
                tokens=5,
                error="InputError: no" if spec.config.rank == 8 else None,
            )
            for spec in specs
        }

    here = RayHere(run_experiment._test._function)
    monkeypatch.setattr(run_experiment, "ray", here)
    monkeypatch.setattr(run_experiment, "_test", here)
    monkeypatch.setattr(run_experiment, "train_stages", train_stages)
    ranks = {"good": {}, "untrained": {"rank": 8}, "untested": {"rank": 16}}
    made_of = plan(arms=ranks, test_limit=2)
    seen: list[tuple[str, int, int]] = []

    def run() -> Any:
        note = lambda *step: seen.append(step)  # noqa: E731  # shorter than a def here
        resources = train_adapters.Resources()
        return run_experiment.run_experiment(workspace, made_of, named, resources, on_progress=note)

    first, second = run(), run()
    good, *_ = planned_arms(workspace, made_of, named)
    assert [one.state for one in first.arms] == ["done", "failed", "failed"]
    assert first.arms[1].error == "en: InputError: no" and "0" * 16 in str(first.arms[2].error)
    assert [one.state for one in second.arms] == ["was there", "failed", "failed"]
    assert trained.count(good.stages[0][0].run_name) == 1 and len(trained) == 5
    assert good.kept(workspace)[0].tokens == 5
    assert [step for step in seen if step[0] == "arms"][-1] == ("arms", 3, 3)


def retrieveall(workspace: Path, *arguments: str) -> Any:
    code = "from retrieveall.cli.main import main; main()"
    command = [sys.executable, "-c", code, "--workspace", str(workspace), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_plan_runs_once_and_is_reported(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    for language in ("de", "en"):
        rows = sample_corpus(language, sizes={"train": 16, "dev": 4, "test": 4})
        workspace.corpora.import_sentences(rows, name="sample", language=language)
    base = save_tiny_base(tmp_path / "base")
    plan = tmp_path / "tiny.yaml"
    plan.write_text(PLAN)
    command = ("experiment", "run", str(plan), "--base-model", str(base), "--packed")
    first = retrieveall(tmp_path / "w", *command)
    report = retrieveall(tmp_path / "w", "experiment", "report", str(plan))
    workspace.run(first[3]["name"]).remove("manifest.json")  # as after a kill in the last test
    second = retrieveall(tmp_path / "w", *command)

    assert [(one["title"], one["error"]) for one in first] == [
        (name, None) for name in ("both", "test-only", "neither", "continued")
    ]
    assert not any(one["reused"] for one in first)
    assert [one["reused"] for one in second] == [True, True, True, False]
    assert [one["name"] for one in second] == [one["name"] for one in first]
    # two adapters with examples, two without, one polyglot and its two continuations
    assert len(workspace.pool.list()) == 7
    tokens = {arm["name"]: arm["tokens"] for arm in report["arms"]}
    assert tokens["test-only"] == tokens["neither"] < tokens["both"]
    assert report["arms"][3]["routing"] is not None and not report["missing"]
    assert {one["view"] for one in report["comparisons"]} >= {"strict"}
    assert workspace.releases.current().number == 0
    assert {"report.json", "report.md", "macro-f1.png", "differences.png"} <= set(
        workspace.report("experiment-tiny").list()
    )
