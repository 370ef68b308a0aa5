"""Three nodes on this machine: what a lost node, driver or head leaves of a training and of a tagging.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from retrieveall.workspace import Workspace
from tests.heads import REPOSITORY, local_head
from tests.models import save_tiny_base
from tests.processes import workers_below
from tests.test_cli_submit import call, printed
from tests.test_train_jobs_tag_corpus import request, rows_of, scores, spans, write_input
from tests.test_train_jobs_train_adapters import break_corpus, has_checkpoint, make_workspace, specs
from tests.workspaces import random_workspace
from train_jobs.packs import Resources
from train_jobs.pool import PoolResources
from train_jobs.tag_corpus import tag_corpus
from train_jobs.train_adapters import RESULT, TrainReport, train_adapters

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

    def kill_one(self, title: str) -> bool:
        """Takes the node away that has had such a process for longest; False where none has one."""
        busy = {
            process[0]: node
            for node in self.cluster.worker_nodes
            if (process := workers_below(node.all_processes["raylet"][0].process.pid, title))
        }
        if busy:
            self.cluster.remove_node(busy[min(busy)], allow_graceful=False)
        return bool(busy)

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
    """Tries something again and again until it is done, while the test's own thread works."""

    def __init__(self, attempt: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._attempt = attempt
        self.done = False
        self.start()

    def run(self) -> None:
        deadline_s = time.monotonic() + 600
        while time.monotonic() < deadline_s and not self.done:
            self.done = self._attempt()
            time.sleep(0.05)


def train(workspace: Workspace, base: str) -> TrainReport:
    return train_adapters(workspace, specs(workspace, base), Resources(max_failures=3))


def adapters(report: TrainReport) -> dict[str, str | None]:
    return {outcome.language: outcome.adapter for outcome in report.outcomes}


@dataclass(frozen=True, kw_only=True, slots=True)
class Six:
    """What became of six languages, French with a broken corpus at first.

    Attributes:
        most: Runs that were under way at once.
    """

    workspace: Workspace
    first: TrainReport
    second: TrainReport
    most: int


@pytest.fixture(scope="module")
def six(all_nodes: Nodes, base: str, tmp_path_factory: pytest.TempPathFactory) -> Six:
    workspace = make_workspace(tmp_path_factory.mktemp("six"), *SIX)
    whole = break_corpus(workspace, "fr")
    names = [spec.run_name for spec in specs(workspace, base)[0] if spec.language != "fr"]
    most = [0]
    ended = threading.Event()

    def count() -> bool:
        started = set(names) & set(workspace.runs.list())
        most[0] = max(most[0], sum(not workspace.run(name).exists(RESULT) for name in started))
        return ended.is_set()

    watch = Meanwhile(count)
    first = train(workspace, base)
    ended.set()
    watch.join()
    workspace.store.child("corpora").write_bytes("sample/fr/train.parquet", whole)
    return Six(workspace=workspace, first=first, second=train(workspace, base), most=most[0])


def test_six_languages_train_as_far_as_resources_reach_and_one_fails_alone(six: Six) -> None:
    failed = {outcome.language: outcome.error for outcome in six.first.outcomes if outcome.error}
    assert list(failed) == ["fr"] and "arquet" in str(failed["fr"])
    assert 2 <= six.most <= NODES
    assert [outcome.language for outcome in six.second.outcomes if not outcome.reused] == ["fr"]
    assert set(six.workspace.releases.current().languages) == set(SIX)
    kept = {language: adapter for language, adapter in adapters(six.first).items() if language != "fr"}
    assert kept.items() <= adapters(six.second).items()


def test_a_node_lost_in_mid_training_changes_no_adapter(
    nodes: Nodes, tmp_path: Path, base: str, six: Six
) -> None:
    languages = ("de", "en", "ru")
    workspace = make_workspace(tmp_path, *languages)
    runs = [workspace.run(spec.run_name) for spec in specs(workspace, base)[0]]

    def kill() -> bool:
        # of two runs on nodes of one CPU, one at least is not on the head
        saved = [run for run in runs if has_checkpoint(run) and not run.exists(RESULT)]
        return len(saved) >= 2 and nodes.kill_one("ray::RayTrainWorker")

    loss = Meanwhile(kill)
    report = train(workspace, base)
    loss.join()

    assert loss.done
    assert not [outcome.error for outcome in report.outcomes if outcome.error]
    assert adapters(report).items() <= adapters(six.second).items()
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
    loss = Meanwhile(lambda: files_in(tmp_path / "out") >= 6 and nodes.kill_one("TagWorker"))
    tag_corpus(workspace, request(source, tmp_path / "out"), PoolResources(actors=NODES))
    loss.join()

    assert loss.done
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


def test_a_lost_head_takes_its_job_along_and_the_same_command_does_the_rest(
    tagging: tuple[Workspace, Path, list[Any]], tmp_path: Path
) -> None:
    workspace, source, undisturbed = tagging
    output = tmp_path / "out"
    command = ["tag", *tag_flags(source, output), "--actors", "2"]
    with local_head() as head:
        job = printed(head, workspace.uri, *command, "--no-follow")["job"]
        deadline_s = time.monotonic() + 400
        while files_in(output) < 6:
            assert time.monotonic() < deadline_s, call(head, workspace.uri, "logs", job).stdout
            time.sleep(0.05)
        head.kill()
    assert not (output / "summary.json").exists()
    with local_head() as head:
        again = call(head, workspace.uri, *command)

    assert again.returncode == 0, again.stdout + again.stderr
    assert f"submitted as {job}" in again.stderr  # a new head knows nothing of the old one's jobs
    assert json.loads((output / "summary.json").read_text())["reused_rows"] >= 4 * 6
    check_rows(output, undisturbed)


def start_tagging(nodes: Nodes, workspace: Workspace, source: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train_jobs.tag_corpus", "--workspace", workspace.uri, "--actors", "3"]
    environment = {**os.environ, "RAY_ADDRESS": nodes.cluster.address, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [*command, *tag_flags(source, output)], env=environment, stdout=subprocess.DEVNULL
    )


def tag_flags(source: Path, output: Path) -> list[str]:
    return ["--input", str(source), "--output", str(output), "--rows-per-fragment", "4"]
