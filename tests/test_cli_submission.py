"""Submissions against a stand-in for Ray's client, which keeps what a cluster would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from retrieveall.cli.submission import JobCluster, Work
from retrieveall.errors import ConfigError, NotFoundError

WORK = Work(name="tag", arguments=("python", "-m", "train_jobs.tag_corpus", "--input=a b"), code="c1")


@dataclass
class Details:
    submission_id: str
    entrypoint: str = ""
    status: JobStatus = JobStatus.RUNNING
    start_time: int = 0
    driver_exit_code: int | None = None
    message: str = "Job is running."


@dataclass
class Cluster:
    """What a cluster keeps, and how its jobs end.

    Attributes:
        endings: Status and exit code of each attempt, in turn.
        tails: What the log's reader gets in turn; an exception breaks the connection.
    """

    endings: list[tuple[str, int | None]] = field(default_factory=list)
    tails: list[list[str | Exception]] = field(default_factory=list)
    jobs: dict[str, Details] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    problem: Exception | None = None
    before_submit: Callable[[str], None] = lambda submission_id: None

    def __call__(self, address: str) -> Cluster:
        if self.problem is not None:
            raise self.problem
        return self

    def list_jobs(self) -> list[Details]:
        return [*self.jobs.values(), Details(submission_id="raysubmit_of_somebody_else")]

    def get_job_info(self, submission_id: str) -> Details:
        if submission_id not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {submission_id} does not exist.")
        return self.jobs[submission_id]

    def submit_job(self, **options: Any) -> str:
        name = options["submission_id"]
        self.before_submit(name)
        if name in self.jobs:
            raise RuntimeError(f"Job with submission_id {name} already exists. Please use another.")
        self.submitted.append(options)
        self.jobs[name] = Details(name, options["entrypoint"], start_time=len(self.jobs))
        return str(name)

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        for text in self.tails.pop(0) if self.tails else []:
            if isinstance(text, Exception):
                raise text
            yield text
        status, code = self.endings.pop(0)
        self.end(submission_id, status, code)

    def end(self, name: str, status: str, code: int | None = None) -> None:
        changed = {"status": JobStatus(status), "driver_exit_code": code}
        self.jobs[name] = replace(self.jobs[name], **changed)  # type: ignore[arg-type]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", cluster)
    monkeypatch.setattr("retrieveall.cli.submission.time.sleep", lambda seconds: None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://somewhere-else:8265")
    return cluster


def run(cluster: JobCluster, *, retries: int = 2) -> tuple[Any, str, list[str]]:
    written: list[str] = []
    told: list[str] = []
    name, _ = cluster.submit(WORK)
    ended = cluster.run(WORK, name, retries=retries, write=written.append, tell=told.append)
    return ended, "".join(written), told


def test_the_same_work_is_submitted_once(there: Cluster) -> None:
    cluster = JobCluster("head:8265")
    first, is_new = cluster.submit(WORK)

    assert cluster.address == "http://head:8265"
    assert is_new and first.startswith("retrieveall-tag-") and first.endswith("-1")
    assert there.submitted[0]["entrypoint"] == "python -m train_jobs.tag_corpus '--input=a b'"
    assert cluster.submit(WORK) == (first, False)
    there.end(first, "SUCCEEDED", 0)
    assert cluster.submit(WORK) == (first, False)
    assert cluster.submit(WORK, again=True) == (f"{first[:-1]}2", True)
    assert [job.submission_id for job in cluster.jobs()] == [first, f"{first[:-1]}2"]


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_what_failed_or_was_stopped_is_submitted_again(there: Cluster, status: str) -> None:
    cluster = JobCluster("head:8265")
    first, _ = cluster.submit(WORK)
    there.end(first, status)
    assert cluster.submit(WORK) == (f"{first[:-1]}2", True)
    assert cluster.submit(WORK) == (f"{first[:-1]}2", False)


@pytest.mark.parametrize(
    "other",
    [
        replace(WORK, arguments=(*WORK.arguments, "--language=de")),
        replace(WORK, code="c2"),
        replace(WORK, runtime_env={"env_vars": {"A": "1"}}),
        replace(WORK, driver_cpus=1.0),
    ],
)
def test_other_work_has_another_name(other: Work) -> None:
    assert other.stem != WORK.stem


def test_code_names_the_work_by_what_it_holds_not_by_where_it_lies() -> None:
    def stem(path: str, content: str, *others: str) -> str:
        environment = {"py_modules": [path, *others], "pip": ["a"]}
        return replace(WORK, runtime_env=environment, contents={path: content}).stem

    assert stem("/home/me/mine", "d1") == stem("/home/you/mine", "d1")
    stems = [stem("/mine", "d1"), stem("/mine", "d2"), stem("/mine", "d1", "s3://b/1.zip")]
    assert len({*stems, stem("/mine", "d1", "s3://b/2.zip"), WORK.stem}) == 5


def test_who_submits_at_the_same_moment_is_attached(there: Cluster) -> None:
    def another(name: str) -> None:
        there.jobs[name] = Details(name)

    there.before_submit = another
    assert JobCluster("head:8265").submit(WORK) == (f"{WORK.stem}1", False)
    assert not there.submitted


def test_a_job_that_died_is_tried_again_and_one_line_says_so(there: Cluster) -> None:
    there.endings = [("FAILED", None), ("FAILED", 1), ("SUCCEEDED", 0)]
    ended, _, told = run(JobCluster("head:8265"))
    assert (ended.submission_id, ended.status) == (f"{WORK.stem}3", "SUCCEEDED")
    assert [line.split(" ")[0] for line in told] == [f"{WORK.stem}1", f"{WORK.stem}2"]


def test_retries_have_a_limit(there: Cluster) -> None:
    there.endings = [("FAILED", None)] * 2
    ended, _, _ = run(JobCluster("head:8265"), retries=1)
    assert (ended.submission_id, ended.status) == (f"{WORK.stem}2", "FAILED")


@pytest.mark.parametrize("ending", [("FAILED", 2), ("FAILED", 3), ("STOPPED", None), ("SUCCEEDED", 0)])
def test_mistakes_and_stopped_jobs_are_not_tried_again(there: Cluster, ending: tuple[str, int]) -> None:
    there.endings = [ending]
    ended, _, told = run(JobCluster("head:8265"))
    assert ended.submission_id == f"{WORK.stem}1" and ended.status == ending[0]
    assert not told


@pytest.mark.parametrize(
    "cut", [ConnectionResetError("gone"), aiohttp.ServerDisconnectedError(), RuntimeError("closed")]
)
def test_a_log_whose_reader_was_cut_off_is_written_once(there: Cluster, cut: Exception) -> None:
    there.tails = [["one\ntw", cut], ["one\n", "two\nth", "ree\n"]]
    there.endings = [("SUCCEEDED", 0)]
    _, written, _ = run(JobCluster("head:8265"))
    assert written == "one\ntwo\nthree\n"


def test_a_head_that_lost_the_job_gets_it_again(there: Cluster) -> None:
    cluster = JobCluster("head:8265")
    first, _ = cluster.submit(WORK)
    there.jobs.clear()
    there.endings = [("SUCCEEDED", 0)]
    told: list[str] = []
    ended = cluster.run(WORK, first, retries=1, write=lambda text: None, tell=told.append)
    assert ended.status == "SUCCEEDED" and told == [f"{first} is gone; trying again"]


def test_a_refused_token_is_one_line(there: Cluster) -> None:
    there.problem = AuthenticationError("Authentication failed: Forbidden\n\nand much more")
    with pytest.raises(ConfigError, match=r"http://head:8265 does not take the token .* RAY_AUTH_TOKEN"):
        JobCluster("head:8265")


def test_a_cluster_that_is_not_there_is_one_line(there: Cluster) -> None:
    there.problem = ConnectionError("Failed to connect")
    with pytest.raises(ConfigError, match="No Ray dashboard answers at http://head:8265"):
        JobCluster("head:8265")


def test_a_job_that_is_not_there_is_one_line(there: Cluster) -> None:
    with pytest.raises(NotFoundError, match="has no job 'nothing'"):
        JobCluster("head:8265").job("nothing")
