"""One path through the whole product: the sample corpus, from import to tags, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)  # Ray starts, trains and stops in the first test

TOUR = ("quickstart", "--languages", "en,es", "--train-limit", "48", "--epochs", "1", "--eval-limit", "6")


def retrieveall(workspace: Path, *arguments: str) -> Any:
    """Runs a command in a process of its own, as a user does; stdout must be JSON alone."""
    code = "from retrieveall.cli.main import main; main()"
    command = [sys.executable, "-c", code, "--workspace", str(workspace), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end") / "workspace"


@pytest.fixture(scope="module")
def tour(workspace: Path) -> Any:
    return retrieveall(workspace, *TOUR)


def test_the_tour_trains_evaluates_and_tags(tour: Any, workspace: Path) -> None:
    assert [outcome["language"] for outcome in tour["training"]["outcomes"]] == ["en", "es"]
    assert all(outcome["error"] is None for outcome in tour["training"]["outcomes"])
    for arm in ("examples_on", "examples_off"):
        assert set(tour[arm]["languages"]) == {"en", "es"}
        assert tour[arm]["synthetic"] is True
        assert 0.0 <= tour[arm]["macro_f1"] <= 1.0
    assert len(tour["texts"]) == len(tour["tags"]["results"]) == 5
    assert (workspace / "reports" / "quickstart" / "report.html").exists()


def test_every_sentence_is_tagged_and_offsets_point_at_the_text(tour: Any) -> None:
    for text, result in zip(tour["texts"], tour["tags"]["results"], strict=True):
        covered = [False] * len(text)
        for sentence in result["sentences"]:
            assert sentence["language"] in ("en", "es")
            for place in range(sentence["start_char"], sentence["end_char"]):
                covered[place] = True
        assert all(inside or text[place].isspace() for place, inside in enumerate(covered))
        for entity in result["entities"]:
            assert text[entity["start_char"] : entity["end_char"]] == entity["text"]


def test_evaluation_keeps_its_contract(tour: Any, workspace: Path) -> None:
    adapter = {one["language"]: one["adapter"] for one in tour["training"]["outcomes"]}["es"]
    flags = ("--corpus", "sample", "--languages", "es", "--limit", "4", "--adapters", f"es@{adapter}")
    report = retrieveall(workspace, "eval", *flags)

    assert {"macro_f1", "languages", "sentences_per_s", "release"} <= set(report)
    wanted = {
        "f1", "f1_low", "f1_high", "precision", "recall", "labels", "routing_accuracy", "f1_unseen",
        "f1_detokenised", "sentences",
    }  # fmt: skip
    assert wanted <= set(report["languages"]["es"])
    assert report["languages"]["es"]["sentences"] == 4


def test_texts_are_tagged_and_adapters_listed(tour: Any, workspace: Path) -> None:
    body = retrieveall(workspace, "tag", "Marta Lindqvist moved to Bristol.", "", "--language", "en")
    listed = retrieveall(workspace, "adapters", "list")

    assert body["release"] == listed["release"]["number"] == tour["training"]["release"]
    assert body["results"][1] == {"entities": [], "sentences": []}
    assert {adapter["language"] for adapter in listed["adapters"]} == {"en", "es"}
    assert set(listed["release"]["languages"]) == {"en", "es"}


@pytest.mark.slow  # Ray starts once more
def test_what_is_finished_is_not_done_again(tour: Any, workspace: Path) -> None:
    again = retrieveall(workspace, "train", "--languages", "en,es", "--train-limit", "48", "--epochs", "1")

    assert [outcome["reused"] for outcome in again["outcomes"]] == [True, True]
    assert [o["adapter"] for o in again["outcomes"]] == [o["adapter"] for o in tour["training"]["outcomes"]]
    assert again["release"] == tour["training"]["release"]
