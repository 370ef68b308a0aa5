"""The ``retrieveall`` command: global flags, and how errors reach the user.

Every flag has an environment twin: ``RETRIEVEALL_`` + command + flag, such as
``RETRIEVEALL_TRAIN_BASE_MODEL`` for ``retrieveall train --base-model``; ``--help`` shows each.
Heavy packages are imported inside the functions that need them, so that help stays quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from retrieveall import __version__
from retrieveall.cli import adapters, analyze, corpus, experiment, gc, index, keys, submit
from retrieveall.cli.evaluate import eval_
from retrieveall.cli.flags import DebugFlag, WorkspaceFlag
from retrieveall.cli.jobs import JOBS, job_app
from retrieveall.cli.output import note, print_line
from retrieveall.cli.process import set_defaults
from retrieveall.cli.quickstart import quickstart
from retrieveall.cli.serve import serve
from retrieveall.cli.session import DEBUG_VARIABLE, DEFAULT_WORKSPACE, begin_session
from retrieveall.cli.tag import tag
from retrieveall.cli.train import train
from retrieveall.errors import RetrieveAllError, original_error

_EPILOG = (
    "A first tour: `retrieveall quickstart`. Your own data: `corpus import`, `index`, `train`, `eval`, `tag`."
)

app = typer.Typer(
    name="retrieveall",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=_EPILOG,
    context_settings={"auto_envvar_prefix": "RETRIEVEALL", "help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart)
app.add_typer(corpus.app, name="corpus")
app.add_typer(index.app, name="index")
app.command("train")(train)
app.command("tag")(tag)
app.command("serve")(serve)
app.command("eval")(eval_)
app.add_typer(submit.app, name="submit")
app.add_typer(analyze.app, name="analyze")
app.add_typer(experiment.app, name="experiment")
app.add_typer(adapters.app, name="adapters")
app.add_typer(keys.app, name="keys")
app.command("gc")(gc.gc)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"retrieveall {__version__}")
        raise typer.Exit


@app.callback()
def _global_flags(
    context: typer.Context,
    workspace: WorkspaceFlag = DEFAULT_WORKSPACE,
    debug: DebugFlag = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Tags named entities in many languages: one frozen model, one LoRA per language, retrieved examples.

    Flags before the command are global; each flag has an environment twin, shown beside it.
    """
    context.obj = begin_session(workspace, debug=debug)


def main() -> None:
    """Runs the command line; the entry point of the package.

    Exits with 2 and one line on stderr for errors that the user can mend, and with 1 and one line
    for the rest. ``--debug`` lets the traceback through.
    """
    _run(app)


def job_main(name: str) -> None:
    """Runs a command as `python -m train_jobs.…` does: its flags, and the global ones among them."""
    _run(job_app(JOBS[name]))


def _run(commands: Callable[[], None]) -> None:
    set_defaults()
    try:
        commands()
    except KeyboardInterrupt:
        note("retrieveall: interrupted; the same command goes on where it stopped")
        sys.exit(130)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        sys.exit(report_error(error))


def report_error(error: BaseException) -> int:
    """Writes one line about an error to stderr and returns the exit code."""
    origin = original_error(error)
    text = " ".join(str(origin).split())
    if isinstance(origin, RetrieveAllError):
        note(f"retrieveall: error: {text}")
        return 2
    kind = type(origin).__name__
    note(f"retrieveall: unexpected {kind}: {text[:500]} (run again with --debug for the traceback)")
    return 1
