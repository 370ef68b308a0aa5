"""A plan from start to report on Ray, with a random base; and again, when all is finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.workspace import Workspace
from tests.models import save_tiny_base

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
