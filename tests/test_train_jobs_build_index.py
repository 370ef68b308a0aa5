"""The index job in a small in-process Ray, and killed half-way."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieveall.corpus import CorpusKey
from retrieveall.corpus.sample import sample_corpus
from retrieveall.embedding import EmbedderSpec, load_embedder
from retrieveall.errors import InputError, NotFoundError
from retrieveall.retrieval import IndexOptions, Retriever
from retrieveall.retrieval.writing import IndexRequest, write_index
from retrieveall.workspace import Workspace
from tests.models import save_tiny_base
from tests.processes import wait_for_worker
from train_jobs.build_index import IndexOutcome, build_index
from train_jobs.pool import PoolResources

OPTIONS = IndexOptions(kind="flat", rows_per_shard=40)
SPEC = EmbedderSpec(dimensions=32)


@pytest.fixture(scope="module", autouse=True)
def small_ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def workspace_with(folder: Path, *languages: str, train: int = 90) -> Workspace:
    workspace = Workspace.open(folder, create=True)
    for language in languages:
        sentences = sample_corpus(language, sizes={"train": train, "dev": 5, "test": 5})
        workspace.corpora.import_sentences(sentences, name="sample", language=language, detokenise=False)
    return workspace


def build(workspace: Workspace, *languages: str, spec: EmbedderSpec = SPEC) -> list[IndexOutcome]:
    keys = [CorpusKey(name="sample", language=language) for language in languages]
    return build_index(workspace, keys, spec, OPTIONS, PoolResources(actors=1))


def contents(workspace: Workspace) -> dict[str, bytes]:
    return {file.path: workspace.indexes.read_bytes(file.path) for file in workspace.indexes.files()}


def test_builds_answers_and_does_nothing_twice(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path, "en", "ja")
    first = build(workspace, "en", "ja")
    assert [(o.manifest.language, o.reused) for o in first] == [("en", False), ("ja", False)]
    assert [dict(o.manifest.shards)["context"] for o in first] == [3, 3]
    before = {file.path: file.modified_s for file in workspace.indexes.files()}
    assert [o.reused for o in build(workspace, "en", "ja")] == [True, True]
    assert {file.path: file.modified_s for file in workspace.indexes.files()} == before
    retriever = Retriever.open(workspace.indexes, {o.manifest.language: o.manifest.digest for o in first})
    sentence = workspace.corpora.load("sample", "ja", "train")[7]
    assert retriever.retrieve("ja", sentence.text).context[0].sentence_id == sentence.id


@pytest.mark.slow
def test_takes_up_what_a_killed_job_left(tmp_path: Path) -> None:
    whole, half = workspace_with(tmp_path / "whole", "en"), workspace_with(tmp_path / "half", "en")
    build(whole, "en")
    for path, data in contents(whole).items():
        if path.endswith(("arrow", "shard-00001.faiss")):
            half.indexes.write_bytes(path, data)
    kept = half.indexes.files()
    assert not build(half, "en")[0].reused
    assert set(kept) <= set(half.indexes.files())
    assert contents(half) == contents(whole)


def test_errors_reach_the_caller_as_they_were_raised(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    sentences = [
        s for s in sample_corpus("en", sizes={"train": 1, "dev": 2, "test": 2}) if s.split != "train"
    ]
    workspace.corpora.import_sentences(sentences, name="sample", language="en", detokenise=False)
    with pytest.raises(InputError, match="no training sentences"):
        build(workspace, "en")
    with pytest.raises(NotFoundError, match="corpus"):
        build(workspace, "nl")


@pytest.mark.slow
def test_an_embedder_with_weights_works_in_actors(tmp_path: Path) -> None:
    job, loop = workspace_with(tmp_path / "job", "en", train=50), Workspace.open(tmp_path, create=True)
    spec = EmbedderSpec(name="lm", model=str(save_tiny_base(tmp_path / "base")))
    key = CorpusKey(name="sample", language="en")
    built = build_index(job, [key], spec, OPTIONS, PoolResources(actors=1))[0].manifest
    request = IndexRequest(
        language="en",
        corpus="sample",
        corpus_digest=built.corpus_digest,
        spec=spec,
        embedder_digest=built.embedder_digest,
        options=OPTIONS,
    )
    write_index(loop.indexes, request, job.corpora.load("sample", "en", "train"), load_embedder(spec))
    assert contents(job) == contents(loop)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_killed_and_started_again_gives_the_same_index(tmp_path: Path, victim: str) -> None:
    whole = workspace_with(tmp_path / "whole", "en", train=1_500)
    half = workspace_with(tmp_path / "half", "en", train=1_500)
    build(whole, "en", spec=EmbedderSpec())
    job = start_job(tmp_path / "half")
    try:
        wait_for(job, half, "shard-00003.faiss")
        if victim == "driver":
            job.kill()
            job.wait()
            assert not any(path.endswith("manifest.json") for path in contents(half))
            job = start_job(tmp_path / "half")
        else:
            os.kill(wait_for_worker(job, "MapBatches(work)"), signal.SIGKILL)
        assert job.wait(timeout=500) == 0
    finally:
        job.kill()
    assert contents(half) == contents(whole)


def start_job(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train_jobs.build_index", "--workspace", str(folder), "--actors", "1"]
    sizes = ["--kind", "flat", "--rows-per-shard", "40"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen([*command, *sizes], env=environment, stdout=subprocess.DEVNULL)


def wait_for(job: subprocess.Popen[bytes], workspace: Workspace, name: str) -> None:
    while not any(file.path.endswith(name) for file in workspace.indexes.files()):
        assert job.poll() is None, "the job ended before it could be killed"
        time.sleep(0.02)
