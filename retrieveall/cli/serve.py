"""``retrieveall serve``, and what ``quickstart --serve`` calls."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from retrieveall.cli.flags import ExamplesFlag, ReleaseFlag, RoutingChoice, ThreadsFlag
from retrieveall.cli.output import libraries_on_stderr, note, print_line
from retrieveall.cli.process import gpus_wanted, ray_running
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session

if TYPE_CHECKING:
    from serve_apps.args import ServeArgs

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000


def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port of the HTTP endpoint.", min=1, max=65535)] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT_HOST,
    no_keys: Annotated[
        bool, typer.Option("--no-keys", help="Check no API keys; only for this machine itself.")
    ] = False,
    release: ReleaseFlag = None,
    routing: Annotated[
        RoutingChoice | None, typer.Option(help="How adapters are chosen. [default: the workspace's, linear]")
    ] = None,
    examples: ExamplesFlag = "on",
    timeout_s: Annotated[float, typer.Option(help="Seconds that one request may take.", min=0.1)] = 60.0,
    threads: ThreadsFlag = 1,
    gpus: Annotated[
        float | None,
        typer.Option(help="GPUs of the generator. [default: 1 where Ray has one, else 0]", min=0.0),
    ] = None,
) -> None:
    """Serves the workspace over HTTP until Ctrl-C; RAY_ADDRESS names a cluster to use.

    New releases are taken up as they are published, unless --release names one.

    \b
    Examples:
      retrieveall keys create me; retrieveall serve
      retrieveall serve --no-keys
      retrieveall serve --port 8080 --release 3 --routing centroid
    """
    serve_until_interrupted(
        service_args(
            Session.of(context).workspace,
            release=release,
            routing=routing,
            examples=examples == "on",
            timeout_s=timeout_s,
            threads=threads,
            keys="off" if no_keys else "required",
        ),
        host=host,
        port=port,
        gpus=gpus,
    )


def service_args(
    workspace: str,
    *,
    release: int | None = None,
    routing: RoutingChoice | None = None,
    examples: bool = True,
    timeout_s: float = 60.0,
    threads: int = 1,
    keys: Literal["required", "off"] = "required",
) -> ServeArgs:
    """Returns the application's arguments.

    Args:
        workspace: Path or URI.
        release: Its number; None for the current one.
        routing: None for the workspace's.
        examples: Show retrieved examples in the prompts.
        timeout_s: Time of one request.
        threads: Threads of torch on a CPU, in the engine.
        keys: ``off`` checks none and answers only this machine.
    """
    from serve_apps.args import ServeArgs

    args = ServeArgs(
        workspace=workspace,
        release=release,
        routing=routing,
        examples=examples,
        timeout_s=timeout_s,
        keys=keys,
    )
    generator = args.generator.model_copy(update={"library_threads": threads})
    return args.model_copy(update={"generator": generator})


def serve_until_interrupted(
    args: ServeArgs, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, gpus: float | None = None
) -> None:
    """Starts Ray and Serve, waits until the service answers, prints how to ask it, stays until Ctrl-C.

    Args:
        args: The application's arguments.
        host: Address to listen on.
        port: Port to listen on.
        gpus: GPUs of the generator; None takes one where Ray has one.

    Raises:
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The port is taken, the service does not start, or it shall listen to other machines
            without checking keys.
    """
    from serve_apps.opened import check_release
    from serve_apps.running import check_free, start_service, stop_service

    check_keys(args, host)
    check_release(args)  # says what is wrong before Ray starts, which takes seconds
    check_free(host, port)
    with ray_running() as ray_is_ours, interrupted() as stopped:
        generator = args.generator.model_copy(update={"gpus": gpus_wanted(gpus)})
        try:
            with libraries_on_stderr(), progress_bar("starting the service"):
                url = start_service(args.model_copy(update={"generator": generator}), host=host, port=port)
            print_service(url, with_key=args.keys == "required")
            stopped.wait()
        finally:
            note("retrieveall: stopping the service")
            stop_service(ray_ends_too=ray_is_ours)


def check_keys(args: ServeArgs, host: str) -> None:
    """Checks that a service without keys listens to this machine alone; notes where there are no keys yet.

    Raises:
        ConfigError: It would listen to other machines.
    """
    from retrieveall.errors import ConfigError
    from retrieveall.workspace import Workspace
    from serve_apps.access import is_loopback
    from serve_apps.keys import KeyFile

    if args.keys == "off":
        if not is_loopback(host):
            raise ConfigError(
                f"--no-keys was given with --host {host}, which other machines may reach. Leave --no-keys"
                " away, or listen on 127.0.0.1."
            )
    elif all(key.revoked_at for key in KeyFile(store=Workspace.open(args.workspace).store).list()):
        note("retrieveall: there is no API key yet, so every request gets 401: retrieveall keys create NAME")


def print_service(url: str, *, with_key: bool) -> None:
    """Prints where the service is and how to ask it."""
    key = "-H 'Authorization: Bearer ra_…' " if with_key else ""
    print_line(f"\nThe service answers at {url}/v1/tag, documented at {url}/docs; Ctrl-C stops it.\n")
    print_line(f"  curl -s {url}/v1/tag {key}-H 'Content-Type: application/json' \\")
    print_line("""    -d '{"texts": ["Daniel Osei works in Leeds. Анна Белова живёт в Риге."]}'\n""")


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """Gives an event that SIGINT and SIGTERM set, so that what runs can end in order."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
