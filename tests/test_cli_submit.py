"""`retrieveall submit`: its flags here, its jobs on a real head that asks for a token in the slow test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from retrieveall import __version__
from retrieveall.cli import submit
from retrieveall.cli.jobs import JOBS, job_app
from retrieveall.cli.main import app
from retrieveall.cli.submission import Work
from retrieveall.errors import ConfigError, NotFoundError
from tests.heads import REPOSITORY, Head, local_head
from tests.workspaces import random_workspace

TOKEN = "0123456789abcdef0123456789abcdef"
ROWS = 120


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """Takes the works that would have been submitted."""
    works: list[Work] = []
    monkeypatch.setattr(submit, "_submit", lambda work, flags, as_json: works.append(work))
    return works


def invoke(*arguments: str, **environment: str) -> Any:
    result = CliRunner().invoke(app, ["--workspace", "w", "submit", *arguments], env=environment)
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def words_of(submitted: list[Work], *arguments: str, **environment: str) -> tuple[str, ...]:
    assert invoke(*arguments, **environment).exit_code == 0
    return submitted[-1].arguments


def test_a_job_gets_the_flags_that_were_given_and_places_that_hold_elsewhere(
    submitted: list[Work], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--input", "texts", "--output", "s3://bucket/out", "--labels", "PER,LOC", "--min-score", "0.5")
    assert words_of(submitted, "tag", *flags, "--threads", "1") == (
        *("python", "-m", "train_jobs.tag_corpus", f"--workspace={tmp_path}/w"),
        *(f"--input={tmp_path}/texts", "--output=s3://bucket/out", "--labels=PER,LOC", "--min-score=0.5"),
    )


def test_switches_and_the_environment_reach_the_job(submitted: list[Work]) -> None:
    words = words_of(
        submitted, "train", "--packed", "--no-publish", "--rank", "8", RETRIEVEALL_SUBMIT_TRAIN_CORPUS="panx"
    )
    assert words[4:] == ("--corpus=panx", "--no-publish", "--rank=8", "--packed")


def test_a_folder_of_a_base_is_made_absolute_and_a_name_is_not(
    submitted: list[Work], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    assert words_of(submitted, "index", "--base-model", "base")[4:] == (f"--base-model={tmp_path}/base",)
    name = "Qwen/Qwen3-1.7B"
    assert words_of(submitted, "index", "--base-model", name)[4:] == (f"--base-model={name}",)


def test_code_and_environment_are_part_of_the_work(submitted: list[Work], tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text("env_vars: {HF_TOKEN: x}\n")
    invoke("eval")
    invoke("eval", "--runtime-env", str(file), "--package", "installed", "--driver-gpus", "1")
    ours, given = submitted

    folders = [Path(path) for path in ours.runtime_env["py_modules"]]
    assert [folder.name for folder in folders] == ["retrieveall", "train_jobs", "serve_apps"]
    assert all((folder / "__init__.py").exists() for folder in folders)
    assert ours.runtime_env["env_vars"]["OMP_NUM_THREADS"] == "1"
    assert ours.driver_cpus == given.driver_cpus == 1.0 and given.driver_gpus == 1.0
    assert "py_modules" not in given.runtime_env and given.code == f"installed {__version__}"
    assert given.runtime_env["env_vars"]["HF_TOKEN"] == "x"
    assert ours.stem != given.stem


@pytest.mark.parametrize("package", ["upload", "installed"])
def test_what_an_environment_names_on_this_machine_counts_by_its_content(
    submitted: list[Work], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.chdir(tmp_path)
    module, needs, env = tmp_path / "mine", tmp_path / "needs.txt", tmp_path / "env.yaml"
    (module / "__pycache__").mkdir(parents=True)

    def stem(code: str = "a = 1", requirements: str = "numpy", image: str = "i:1") -> str:
        (module / "__init__.py").write_text(code)
        needs.write_text(requirements)
        environment = {"py_modules": ["mine", "s3://b/m.zip"], "pip": "needs.txt", "image_uri": image}
        env.write_text(json.dumps(environment))
        invoke("eval", "--runtime-env", str(env), "--package", package)
        return submitted[-1].stem

    first = stem()
    (module / "__pycache__" / "a.pyc").write_text("compiled")
    assert stem() == first
    assert submitted[-1].runtime_env["py_modules"][-2:] == ["mine", "s3://b/m.zip"]
    others = [stem(code="a = 2"), stem(requirements="scipy"), stem(image="i:2")]
    assert len({first, *others}) == 4


def test_installed_code_counts_by_its_version(submitted: list[Work], monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("eval", "--package", "installed")
    monkeypatch.setattr(submit, "__version__", "9.9")
    invoke("eval", "--package", "installed")
    assert submitted[0].stem != submitted[1].stem


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "cannot be read"), ("- pip", "must hold fields"), (None, "cannot be read")],
)
def test_a_runtime_environment_that_is_none_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "env.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        invoke("index", "--runtime-env", str(tmp_path / "env.yaml"))


def test_what_is_no_job_is_refused_at_once(submitted: list[Work]) -> None:
    assert "Missing option '--output'" in invoke("tag", "--input", "a.txt").output
    assert "No such option" in invoke("tag", "--input", "a", "--output", "b", "--explain").output
    assert not submitted


def test_a_cluster_must_be_named() -> None:
    with pytest.raises(ConfigError, match="Give --address"):
        invoke("status", RAY_API_SERVER_ADDRESS="")


@pytest.mark.parametrize("name", JOBS)
def test_a_job_does_what_its_command_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = ["--input", "a", "--output", "b"] if name == "tag" else []
    monkeypatch.setattr(sys, "argv", ["job", "--workspace", str(tmp_path / "nowhere"), *places])
    with pytest.raises(NotFoundError, match="nowhere"):
        job_app(JOBS[name])()


@pytest.mark.parametrize("name", JOBS)
def test_the_module_of_a_job_has_the_flags_of_its_command(name: str) -> None:
    job = JOBS[name]
    command = [sys.executable, "-m", job.module, "--help"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    own = {parameter.name for parameter in job.parameters()} - {"as_json"}
    assert all(f"--{flag.replace('_', '-')}" in shown for flag in own) and "--json" in shown
    assert "--workspace" in shown and f"RETRIEVEALL_{name.upper()}_" in shown


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with local_head(token=TOKEN) as head:
        yield head


def call(head: Head, workspace: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `retrieveall submit` against the head, in a process that knows its token."""
    main = "from retrieveall.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", main, "--workspace", workspace, "submit", *arguments],
        env={**head.environment, "RAY_API_SERVER_ADDRESS": head.address, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def printed(head: Head, workspace: str, *arguments: str) -> Any:
    done = call(head, workspace, *arguments, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def wait_until_it_runs(head: Head, workspace: str, job: str) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        (one,) = printed(head, workspace, "status", job)
        if one["status"] == "RUNNING":
            return
    raise AssertionError(f"{job} does not run: {one}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_job_is_submitted_attached_to_stopped_submitted_again_and_followed(
    head: Head, tmp_path: Path
) -> None:
    workspace = random_workspace(tmp_path, ("de", "en")).uri
    (tmp_path / "in.txt").write_text("".join(f"Anna Keller lebt in Bern, {n}.\n" for n in range(ROWS)))
    flags = ["tag", "--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out")]
    flags += ["--rows-per-fragment", "10", "--actors", "1"]

    first = printed(head, workspace, *flags, "--no-follow")
    second = call(head, workspace, *flags, "--no-follow")
    assert "attached to" in second.stderr and first["job"] in second.stderr
    wait_until_it_runs(head, workspace, first["job"])
    assert f"{first['job']}: STOPPED" in call(head, workspace, "stop", first["job"]).stdout

    again = call(head, workspace, *flags)
    job = f"{first['job'][:-1]}2"
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"submitted as {job}" in again.stderr
    assert f"{ROWS} rows, 0 errors" in again.stdout and f"{job}: SUCCEEDED" in again.stdout
    assert f"{ROWS} rows, 0 errors" in call(head, workspace, "logs", job).stdout
    rows = pq.read_table(tmp_path / "out" / "rows").sort_by("row")["row"].to_pylist()
    assert rows == list(range(ROWS))

    done = call(head, workspace, *flags)
    assert done.returncode == 0 and f"{job} has done this before" in done.stderr
    states = {one["job"]: one["status"] for one in printed(head, workspace, "status")}
    assert states == {first["job"]: "STOPPED", job: "SUCCEEDED"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_mistake_ends_a_job_with_its_line_and_exit_code_and_is_not_tried_again(
    head: Head, tmp_path: Path
) -> None:
    done = call(head, str(tmp_path / "nowhere"), "eval")
    assert done.returncode == 2
    assert "retrieveall: error:" in done.stdout and "nowhere" in done.stdout
    assert "trying again" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "environment", [{"RAY_AUTH_TOKEN": "f" * 32}, {"RAY_AUTH_MODE": "disabled"}], ids=["wrong", "none"]
)
def test_a_wrong_token_gets_one_clear_line(head: Head, tmp_path: Path, environment: dict[str, str]) -> None:
    done = call(head, str(tmp_path / "w"), "index", **environment)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "does not take the token" in line and "RAY_AUTH_TOKEN" in line
