"""``retrieveall submit``: the long commands as jobs of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from retrieveall import __version__
from retrieveall.cli.flags import JsonFlag
from retrieveall.cli.groups import group_parameters, own_parameters, with_parameters
from retrieveall.cli.jobs import JOBS, Job, job_arguments
from retrieveall.cli.output import note, print_json, print_line, print_table
from retrieveall.cli.process import worker_variables
from retrieveall.cli.session import Session
from retrieveall.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from retrieveall.cli.submission import JobCluster, Work

PackageChoice = Literal["upload", "installed"]

_PACKAGES: Final = ("retrieveall", "train_jobs", "serve_apps")
_NO_CODE: Final = "__pycache__"
_MAYBE_FILES: Final = ("pip", "uv", "conda")
"""Fields of a runtime environment that hold values or the name of a file with them."""

app = typer.Typer(
    no_args_is_help=True,
    help="Runs index, train, tag and eval on a Ray cluster, all of whose nodes must reach workspace, input"
    " and output.",
)

AddressFlag = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS",
        metavar="URL",
        help="Dashboard of the cluster, such as http://HEAD:8265.",
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the submission.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitFlags:
    """How a job is submitted."""

    address: AddressFlag = None
    follow: Annotated[
        bool, typer.Option(help="Show the job's log until it ends; Ctrl-C leaves the job alone.")
    ] = True
    retries: Annotated[
        int, typer.Option(min=0, help="Times that a failed job is submitted again, while it is followed.")
    ] = 2
    again: Annotated[
        bool, typer.Option("--again", help="Submit it even if the same work was finished before.")
    ] = False
    package: Annotated[
        PackageChoice,
        typer.Option(help="Whose code runs: this one, uploaded, or what the cluster has installed."),
    ] = "upload"
    runtime_env: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML of a Ray runtime environment, such as env_vars or pip."),
    ] = None
    driver_cpus: Annotated[
        float | None, typer.Option(min=0, help="CPUs of the job's own process. [default: 1 for eval, else 0]")
    ] = None
    driver_gpus: Annotated[float, typer.Option(min=0, help="GPUs of the job's own process.")] = 0.0


def _submitting(job: Job) -> Any:
    """Makes ``submit NAME`` of a command: its own flags, and those of submitting."""

    def call(context: typer.Context, as_json: JsonFlag = False, **given: Any) -> None:
        flags = SubmitFlags(**{field.name: given.pop(field.name) for field in fields(SubmitFlags)})
        words = job_arguments(job, context, given, Session.of(context).workspace)
        _submit(_work(job, tuple(words), flags), flags, as_json=as_json)

    context, as_json, _ = own_parameters(call)
    call.__doc__ = (
        f"Submits `retrieveall {job.name}` as a job, or is attached to the same work under way.\n\n"
        f"The same as `ray job submit -- python -m {job.module}` with these flags; see `retrieveall"
        f" {job.name} --help`. What failed or was stopped is submitted again and goes on where it stopped."
    )
    own = [parameter for parameter in job.parameters() if parameter.name != "as_json"]
    return with_parameters(call, [context, *own, *group_parameters(SubmitFlags), as_json])


for _job in JOBS.values():
    app.command(_job.name)(_submitting(_job))


def _work(job: Job, words: tuple[str, ...], flags: SubmitFlags) -> Work:
    from retrieveall.cli.submission import Work
    from retrieveall.digests import digest_json

    given = _read_environment(flags.runtime_env)
    contents = _local_contents(given)
    environment = {**given, "env_vars": {**worker_variables(), **given.get("env_vars", {})}}
    code = f"installed {__version__}"
    if flags.package == "upload":
        ours = {str(folder): _content_digest(folder) for folder in map(_package_folder, _PACKAGES)}
        environment["py_modules"] = [*ours, *_modules(given)]
        environment["excludes"] = [_NO_CODE, *given.get("excludes", [])]
        contents, code = {**contents, **ours}, digest_json(list(ours.values()))
    return Work(
        name=job.name,
        arguments=words,
        runtime_env=environment,
        contents=contents,
        code=code,
        driver_cpus=job.driver_cpus if flags.driver_cpus is None else flags.driver_cpus,
        driver_gpus=flags.driver_gpus,
    )


def _read_environment(path: Path | None) -> dict[str, Any]:
    import yaml

    if path is None:
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--runtime-env {path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"--runtime-env {path} must hold fields of a Ray runtime environment, such as pip.")
    return values


def _package_folder(name: str) -> Path:
    """Returns where a package stands; nothing of it is imported."""
    from importlib.util import find_spec

    found = find_spec(name)
    assert found is not None and found.origin is not None  # it is part of this installation
    return Path(found.origin).parent


def _modules(environment: Mapping[str, Any]) -> list[str]:
    modules: list[str] = environment.get("py_modules") or []
    return modules


def _local_contents(environment: Mapping[str, Any]) -> dict[str, str]:
    """Returns digests of what a runtime environment names on this machine, by the path that it gives.

    A job with another module or another list of requirements at the same path is other work.
    """
    sources = [*_modules(environment), environment.get("working_dir")]
    lists = [environment.get(name) for name in _MAYBE_FILES]
    paths = [it for it in sources if isinstance(it, str) and Path(it).exists()]
    files = [it for it in lists if isinstance(it, str) and Path(it).is_file()]
    return {path: _content_digest(Path(path)) for path in (*paths, *files)}


def _content_digest(path: Path) -> str:
    """Returns a digest of a folder or a file and of its name, which is what a module is imported by."""
    from retrieveall.digests import digest_file, digest_folder, digest_parts

    if path.is_file():
        return digest_parts({path.name: digest_file(path)})
    found = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    names = [file.as_posix() for file in found if _NO_CODE not in file.parts]
    return digest_parts({path.absolute().name: digest_folder(path, names)})


def _submit(work: Work, flags: SubmitFlags, *, as_json: bool) -> None:
    cluster = _cluster(flags.address)
    submission_id, is_new = cluster.submit(work, again=flags.again)
    there = cluster.job(submission_id)
    if is_new:
        note(f"retrieveall: submitted as {submission_id}")
    elif there.status == "SUCCEEDED":
        note(f"retrieveall: {submission_id} has done this before; --again does it anew")
    else:
        note(f"retrieveall: attached to {submission_id}, the same work")
    if flags.follow:
        there = _followed(cluster, work, submission_id, flags.retries, as_json=as_json)
    _report(there, as_json=as_json)
    _exit_like(there)


def _followed(
    cluster: JobCluster, work: Work, submission_id: str, retries: int, *, as_json: bool
) -> JobDetails:
    try:
        return cluster.run(work, submission_id, retries=retries, write=_writer(as_json=as_json), tell=_tell)
    except KeyboardInterrupt:
        note(
            f"retrieveall: the job goes on; see it with `retrieveall submit logs {submission_id} --follow`,"
            f" end it with `retrieveall submit stop {submission_id}`"
        )
        raise typer.Exit(130) from None


def _tell(text: str) -> None:
    note(f"retrieveall: {text}")


def _writer(*, as_json: bool) -> Any:
    """Returns where logs go: to stderr where stdout is for JSON."""
    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _exit_like(job: JobDetails) -> None:
    """Ends with the exit code of a job that failed, with 1 where it has none."""
    if job.status in ("FAILED", "STOPPED"):
        raise typer.Exit(job.driver_exit_code or 1)


@app.command()
def status(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="Id of the submission; all of them.")
    ] = None,
    address: AddressFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Lists the jobs that were submitted, or tells of one."""
    cluster = _cluster(address)
    jobs = [cluster.job(job)] if job else cluster.jobs()
    if as_json:
        print_json([_values(one) for one in jobs])
        return
    rows = [
        [one["job"], one["status"], one["started_at"] or "", one["message"]] for one in map(_values, jobs)
    ]
    print_table(["job", "status", "started", ""], rows)


@app.command()
def stop(job: JobArgument, address: AddressFlag = None, as_json: JsonFlag = False) -> None:
    """Stops a job; submitted again, it goes on where it stopped."""
    cluster = _cluster(address)
    if not cluster.stop(job):
        note(f"retrieveall: {job} was over already")
    _report(cluster.job(job), as_json=as_json)


@app.command()
def logs(
    job: JobArgument,
    address: AddressFlag = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
) -> None:
    """Prints what a job has written."""
    cluster = _cluster(address)
    write = _writer(as_json=False)
    if follow:
        _exit_like(cluster.follow(job, write=write, tell=_tell))
    else:
        write(cluster.logs(job))


def _cluster(address: str | None) -> JobCluster:
    from retrieveall.cli.submission import JobCluster

    if not address:
        raise ConfigError(
            "No cluster was named. Give --address http://HEAD:8265, the dashboard of its head, or set"
            " RAY_API_SERVER_ADDRESS."
        )
    return JobCluster(address)


def _values(job: JobDetails) -> dict[str, Any]:
    from retrieveall.cli.submission import told

    started = datetime.fromtimestamp(job.start_time / 1000, UTC) if job.start_time else None
    return {
        "job": job.submission_id,
        "status": str(job.status.value),
        "command": (job.metadata or {}).get("command"),
        "entrypoint": job.entrypoint,
        "started_at": started.isoformat(timespec="seconds") if started else None,
        "exit_code": job.driver_exit_code,
        "message": told(job),
    }


def _report(job: JobDetails, *, as_json: bool) -> None:
    values = _values(job)
    if as_json:
        print_json(values)
    else:
        print_line(f"{values['job']}: {values['status']}. {values['message']}".rstrip())
