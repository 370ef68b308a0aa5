"""The tagging job in a small in-process Ray, and killed half-way."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.errors import ConflictError, InputError, NotFoundError
from retrieveall.offline.options import TagOptions
from retrieveall.offline.progress import TagProgress
from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.workspace import Workspace
from tests.workspaces import publish_random, random_workspace
from train_jobs.pool import PoolResources
from train_jobs.tag_corpus import TagRequest, tag_corpus

LANGUAGES = ("de", "en")
ONE_ACTOR = PoolResources(actors=1)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module", autouse=True)
def small_ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return random_workspace(tmp_path_factory.mktemp("tag-corpus"), LANGUAGES)


def texts(count: int) -> list[str]:
    """Sentences of all languages in turn, each of them another."""
    each = -(-count // len(LANGUAGES))
    samples = [sample_corpus(code, sizes={"train": each, "dev": 0, "test": 0}) for code in LANGUAGES]
    mixed = [sentence.text for pair in zip(*samples, strict=True) for sentence in pair]
    return [f"{text} {number}" for number, text in enumerate(mixed[:count])]


def write_input(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps({"id": f"id-{number}", "text": text}) for number, text in enumerate(texts(count))]
    (folder / "texts.jsonl").write_text("\n".join([*lines, "{broken", '{"text": null}']) + "\n")
    return folder


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / "rows").sort_by("row").to_pylist()
    return rows


def request(source: Path, output: Path, **options: Any) -> TagRequest:
    return TagRequest(
        input=str(source), output=str(output), options=TagOptions(rows_per_fragment=4, **options)
    )


def test_rows_are_tagged_as_the_tagger_tags_them_and_never_twice(
    workspace: Workspace, tmp_path: Path
) -> None:
    source = write_input(tmp_path / "in", 10)
    told: list[TagProgress] = []
    first = tag_corpus(workspace, request(source, tmp_path / "out"), ONE_ACTOR, on_progress=told.append)
    rows = rows_of(tmp_path / "out")
    with open_tagger(workspace, OpenOptions()) as opened:
        expected = opened.tagger.tag(texts(10))

    assert [row["id"] for row in rows] == [*(f"id-{number}" for number in range(10)), None, None]
    assert [row["status"] for row in rows] == ["ok"] * 10 + ["error"] * 2
    for row, answer in zip(rows, expected, strict=False):
        assert [(e["start_char"], e["end_char"], e["label"]) for e in row["entities"]] == [
            (e.start_char, e.end_char, e.label) for e in answer.entities
        ]
        assert [e["score"] for e in row["entities"]] == pytest.approx(
            [e.score for e in answer.entities], abs=1e-3
        )
        assert [s["language"] for s in row["sentences"]] == [s.language for s in answer.sentences]
        assert all(sentence["tokens"] > 0 for sentence in row["sentences"])
    assert (first.statistics.rows, first.statistics.errors, first.reused_rows) == (12, 2, 0)
    assert [progress.done for progress in told] == [0, 4, 8, 12]
    assert (tmp_path / "out" / "summary.html").exists()

    publish_again(workspace, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").iterdir()}
    again = tag_corpus(workspace, request(source, tmp_path / "out"), ONE_ACTOR)

    assert again.reused_rows == 12 and again.rows_per_s is None
    assert again.statistics == first.statistics and again.job == first.job
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").iterdir()} == before


def publish_again(workspace: Workspace, folder: Path) -> None:
    """A newer release must not change what the job is pinned to."""
    number = workspace.releases.current().number
    entries = workspace.releases.current().languages
    indexes = {code: entry.index for code, entry in entries.items() if entry.index is not None}
    assert publish_random(workspace, folder, indexes, seed=number * 10).number == number + 1


def test_errors_reach_the_caller_before_any_work(workspace: Workspace, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", 4)
    with pytest.raises(InputError, match="has no column 'body'; its columns are: id, text"):
        tag_corpus(workspace, request(source, tmp_path / "out", text_column="body"), ONE_ACTOR)
    with pytest.raises(NotFoundError, match="nowhere"):
        tag_corpus(workspace, request(tmp_path / "nowhere", tmp_path / "out"), ONE_ACTOR)
    with pytest.raises(InputError, match="lies in the input's folder"):
        tag_corpus(workspace, request(source, source / "out"), ONE_ACTOR)
    assert not (tmp_path / "out" / "rows").exists()

    tag_corpus(workspace, request(source, tmp_path / "out"), ONE_ACTOR)
    with pytest.raises(ConflictError, match="Another job began"):
        tag_corpus(workspace, request(source, tmp_path / "out", min_score=0.5), ONE_ACTOR)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_started_again_loses_no_row_and_has_none_twice(
    workspace: Workspace, tmp_path: Path
) -> None:
    source = write_input(tmp_path / "in", 160)
    tag_corpus(workspace, request(source, tmp_path / "whole"), ONE_ACTOR)
    job = start_job(workspace, source, tmp_path / "half")
    try:
        wait_for_files(job, tmp_path / "half" / "rows", 5)
        job.kill()
        job.wait()
        kept = set((tmp_path / "half" / "rows").glob("[!.]*.parquet"))
        assert not (tmp_path / "half" / "summary.json").exists()
        job = start_job(workspace, source, tmp_path / "half")
        assert job.wait(timeout=600) == 0
    finally:
        job.kill()
        job.wait()
    rows, whole = rows_of(tmp_path / "half"), rows_of(tmp_path / "whole")
    summary = json.loads((tmp_path / "half" / "summary.json").read_text())

    assert [row["row"] for row in rows] == list(range(162))
    assert 0 < len(kept) < 41 and summary["reused_rows"] >= 4 * len(kept) - 2
    for row, other in zip(rows, whole, strict=True):
        assert spans(row) == spans(other)
        assert scores(row) == pytest.approx(scores(other), abs=1e-3)
        assert {**row, "entities": None, "sentences": None} == {**other, "entities": None, "sentences": None}


def spans(row: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(e["start_char"], e["end_char"], e["label"]) for e in row["entities"] or ()]


def scores(row: dict[str, Any]) -> list[float]:
    return [entity["score"] for entity in row["entities"] or ()]


def start_job(workspace: Workspace, source: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train_jobs.tag_corpus", "--workspace", workspace.uri, "--actors", "1"]
    flags = ["--input", str(source), "--output", str(output), "--rows-per-fragment", "4"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen([*command, *flags], env=environment, stdout=subprocess.DEVNULL)


def wait_for_files(job: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    while len(list(folder.glob("[!.]*.parquet"))) < count:
        assert job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.02)
