"""Three nodes on this machine: what a lost node or a killed driver leaves of a training and of a tagging.

docs/reliability.md lists these faults and their outcomes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from retrieveall.workspace import Workspace
from tests.heads import REPOSITORY
from tests.models import save_tiny_base
from tests.test_train_jobs_tag_corpus import request, rows_of, scores, spans, write_input
from tests.test_train_jobs_train_adapters import break_corpus, make_workspace, specs
from tests.workspaces import random_workspace
from train_jobs.pool import PoolResources
from train_jobs.tag_corpus import tag_corpus
from train_jobs.train_adapters import RESULT, Resources, TrainReport, train_adapters

SIX = ("de", "en", "es", "fr", "ru", "sw")
NODES = 3
ROWS = 240

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    # Ray leaves sockets and files to the garbage collector, which pytest would take for failures of ours.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def patiently(start: Callable[[], Any]) -> Any:
    """Starts a node; again where a busy machine was too slow for the 30 s that Ray gives."""
    for _ in range(4):
        with contextlib.suppress(Exception):  # ray raises no narrower class here
            return start()
    return start()


class Nodes:
    """A head and two workers of one CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ.update(RAY_worker_niceness="0")  # the lowest priority, on a busy machine, is none
        self.cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 1}))
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        self.complete()

    def complete(self) -> None:
        """Starts workers until there are two."""
        while len(self.cluster.worker_nodes) < NODES - 1:
            patiently(lambda: self.cluster.add_node(num_cpus=1))
        self.cluster.wait_for_nodes()

    def kill_one(self) -> None:
        """Takes a worker away as if its plug were pulled."""
        self.cluster.remove_node(sorted(self.cluster.worker_nodes, key=id)[0], allow_graceful=False)

    def end(self) -> None:
        """Ends all of it."""
        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def all_nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.end()


@pytest.fixture
def nodes(all_nodes: Nodes) -> Nodes:
    all_nodes.complete()
    return all_nodes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_base(tmp_path_factory.mktemp("base")))


class Meanwhile(threading.Thread):
    """Does something once a condition holds, while the test's own thread works; errors come with `join`."""

    def __init__(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._condition, self._action = condition, action
        self.acted = False
        self.start()

    def run(self) -> None:
        deadline_s = time.monotonic() + 600
        while time.monotonic() < deadline_s and not self._condition():
            time.sleep(0.05)
        if self._condition():
            self._action()
            self.acted = True


def train(workspace: Workspace, base: str) -> TrainReport:
    return train_adapters(workspace, specs(workspace, base), Resources(max_failures=3))


def adapters(report: TrainReport) -> dict[str, str | None]:
    return {outcome.language: outcome.adapter for outcome in report.outcomes}


def test_six_languages_train_as_far_as_resources_reach_and_one_fails_alone(
    nodes: Nodes, tmp_path: Path, base: str
) -> None:
    workspace = make_workspace(tmp_path, *SIX)
    whole = break_corpus(workspace, "fr")
    runs = [spec.run_name for spec in specs(workspace, base)[0] if spec.language != "fr"]
    most = [0]
    ended = threading.Event()

    def count() -> bool:
        started = {name for name in runs if name in workspace.runs.list()}
        under_way = [name for name in started if not workspace.run(name).exists(RESULT)]
        most[0] = max(most[0], len(under_way))
        return ended.is_set()

    watch = Meanwhile(count, lambda: None)
    first = train(workspace, base)
    ended.set()
    watch.join()
    workspace.store.child("corpora").write_bytes("sample/fr/train.parquet", whole)
    second = train(workspace, base)

    failed = {outcome.language: outcome.error for outcome in first.outcomes if outcome.error}
    assert list(failed) == ["fr"] and "arquet" in str(failed["fr"])
    assert 2 <= most[0] <= NODES
    assert [outcome.language for outcome in second.outcomes if not outcome.reused] == ["fr"]
    assert set(workspace.releases.current().languages) == set(SIX)
    kept = {language: adapter for language, adapter in adapters(first).items() if language != "fr"}
    assert kept.items() <= adapters(second).items()


def test_a_node_lost_in_mid_training_changes_no_adapter(nodes: Nodes, tmp_path: Path, base: str) -> None:
    languages = ("de", "en", "ru")
    undisturbed = train(make_workspace(tmp_path / "one", *languages), base)
    workspace = make_workspace(tmp_path / "two", *languages)
    names = [spec.run_name for spec in specs(workspace, base)[0]]

    def has_checkpoints() -> bool:
        return all(any("checkpoint" in file for file in workspace.run(name).list()) for name in names)

    loss = Meanwhile(has_checkpoints, nodes.kill_one)
    report = train(workspace, base)
    loss.join()

    assert loss.acted
    assert not [outcome.error for outcome in report.outcomes if outcome.error]
    assert adapters(report) == adapters(undisturbed)
    assert len(workspace.pool.list()) == len(languages)


@pytest.fixture(scope="module")
def tagging(tmp_path_factory: pytest.TempPathFactory, all_nodes: Nodes) -> tuple[Workspace, Path, list[Any]]:
    """A workspace, an input, and the rows of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("tagging")
    workspace = random_workspace(folder, ("de", "en"))
    source = write_input(folder / "in", ROWS)
    all_nodes.complete()
    tag_corpus(workspace, request(source, folder / "whole"), PoolResources(actors=NODES))
    return workspace, source, rows_of(folder / "whole")


def files_in(output: Path) -> int:
    return len(list((output / "rows").glob("[!.]*.parquet"))) if (output / "rows").exists() else 0


def check_rows(output: Path, undisturbed: list[Any]) -> None:
    rows = rows_of(output)
    assert [row["row"] for row in rows] == list(range(ROWS + 2))
    assert [row["status"] for row in rows] == [row["status"] for row in undisturbed]
    for row, other in zip(rows, undisturbed, strict=True):
        assert spans(row) == spans(other)
        assert scores(row) == pytest.approx(scores(other), abs=1e-3)


def test_a_node_lost_in_mid_tagging_loses_no_row(
    nodes: Nodes, tagging: tuple[Workspace, Path, list[Any]], tmp_path: Path
) -> None:
    workspace, source, undisturbed = tagging
    loss = Meanwhile(lambda: files_in(tmp_path / "out") >= 6, nodes.kill_one)
    tag_corpus(workspace, request(source, tmp_path / "out"), PoolResources(actors=NODES))
    loss.join()

    assert loss.acted
    check_rows(tmp_path / "out", undisturbed)


def test_a_killed_driver_is_followed_by_another_that_does_the_rest(
    nodes: Nodes, tagging: tuple[Workspace, Path, list[Any]], tmp_path: Path
) -> None:
    workspace, source, undisturbed = tagging
    output = tmp_path / "out"
    driver = start_tagging(nodes, workspace, source, output)
    while files_in(output) < 6:
        assert driver.poll() is None, "the job ended before it could be killed"
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    half = files_in(output)
    killed_early = not (output / "summary.json").exists()
    assert start_tagging(nodes, workspace, source, output).wait(timeout=900) == 0

    assert killed_early and half < ROWS // 4
    assert json.loads((output / "summary.json").read_text())["reused_rows"] >= 4 * 6
    check_rows(output, undisturbed)


def start_tagging(nodes: Nodes, workspace: Workspace, source: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train_jobs.tag_corpus", "--workspace", workspace.uri, "--actors", "3"]
    flags = ["--input", str(source), "--output", str(output), "--rows-per-fragment", "4"]
    environment = {**os.environ, "RAY_ADDRESS": nodes.cluster.address, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([*command, *flags], env=environment, stdout=subprocess.DEVNULL)
