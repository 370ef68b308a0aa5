"""Commands that may run as jobs of a cluster: what starts them there, with the flags that they have here.

The same function is `retrieveall index` on this machine, `python -m train_jobs.build_index` in a job, and
what `retrieveall submit index` sends away.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
from typer.main import get_command

from retrieveall.cli.evaluate import eval_
from retrieveall.cli.flags import DebugFlag, WorkspaceFlag
from retrieveall.cli.groups import own_parameters, with_parameters
from retrieveall.cli.index import index
from retrieveall.cli.session import DEFAULT_WORKSPACE, begin_session
from retrieveall.cli.tag import tag
from retrieveall.cli.train import train

_PLACES: Final = ("input", "output")
_PERHAPS_FOLDERS: Final = ("base_model", "embedder")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A command that may run on a cluster.

    Attributes:
        name: Of the command.
        module: What ``python -m`` starts.
        needs: Flags without which it is no job.
        leaves_out: Parameters that only make sense at a terminal.
        driver_cpus: CPUs that the job's own process needs, beside the workers it starts.
    """

    name: str
    command: Callable[..., None]
    module: str
    needs: tuple[str, ...] = ()
    leaves_out: tuple[str, ...] = ()
    driver_cpus: float = 0.0

    def parameters(self) -> list[inspect.Parameter]:
        """Returns the command's flags as typer sees them, without typer's context."""
        return [
            parameter.replace(default=inspect.Parameter.empty) if parameter.name in self.needs else parameter
            for parameter in own_parameters(self.command)
            if parameter.name not in ("context", *self.leaves_out)
        ]


JOBS: Final = {
    job.name: job
    for job in (
        Job(name="index", command=index, module="train_jobs.build_index"),
        Job(name="train", command=train, module="train_jobs.train_adapters"),
        Job(
            name="tag",
            command=tag,
            module="train_jobs.tag_corpus",
            needs=_PLACES,
            leaves_out=("texts", "explain", "offsets"),
        ),
        Job(name="eval", command=eval_, module="train_jobs.evaluate", driver_cpus=1.0),
    )
}


def job_app(job: Job) -> Callable[[], None]:
    """Returns the command line of ``python -m``: the command's flags and the global ones beside them."""

    def call(
        context: typer.Context,
        workspace: WorkspaceFlag = DEFAULT_WORKSPACE,
        debug: DebugFlag = False,
        **given: Any,
    ) -> None:
        context.obj = begin_session(workspace, debug=debug)
        job.command(context=context, **given)

    own = [parameter for parameter in own_parameters(call) if parameter.name != "given"]
    call.__doc__ = job.command.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    prefix = f"RETRIEVEALL_{job.name}".upper()
    app.command(context_settings={"auto_envvar_prefix": prefix})(
        with_parameters(call, [*own, *job.parameters()])
    )
    command = get_command(app)
    return lambda: command(prog_name=f"python -m {job.module}")


def job_arguments(job: Job, context: typer.Context, given: Mapping[str, Any], workspace: str) -> list[str]:
    """Returns the command line of a job that does what this command was asked to.

    Args:
        job: What is to be started.
        context: Of the command that was called, whose parameters are those of the job and others.
        given: Their values; places on this machine's disk become absolute.
        workspace: Path or URI.
    """
    names = {parameter.name for parameter in job.parameters()} - {"as_json"}
    words = ["python", "-m", job.module, f"--workspace={_absolute(workspace)}"]
    for parameter in context.command.params:
        if parameter.name in names:
            words += _spelled(parameter, _placed(parameter.name, given[parameter.name]))
    return words


def _spelled(parameter: Any, value: Any) -> list[str]:
    if value is None or value == parameter.default:
        return []
    if isinstance(value, bool):
        return [(parameter.opts if value else parameter.secondary_opts)[0]]
    return [f"{parameter.opts[0]}={value}"]


def _placed(name: str, value: Any) -> Any:
    """Makes a place absolute: a job's working folder is another."""
    is_place = name in _PLACES or (name in _PERHAPS_FOLDERS and value is not None and Path(value).is_dir())
    return _absolute(value) if is_place else value


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().absolute())
