"""The application on the Ray of this process: what `retrieveall serve` stands on."""

from __future__ import annotations

import logging
import socket
import time
import urllib.request
from collections.abc import Callable

from ray import serve
from ray.serve.schema import LoggingConfig

from retrieveall.errors import ConfigError
from serve_apps.app import build
from serve_apps.args import ServeArgs
from serve_apps.opened import check_release

APPLICATION = "retrieveall"
READY_TIMEOUT_S = 60.0


def start_service(
    args: ServeArgs, *, host: str, port: int, made: Callable[[ServeArgs], serve.Application] = build
) -> str:
    """Runs the application on the Ray that this process is connected to, until `stop_service`.

    Args:
        args: The application's.
        host: Address that the HTTP proxy listens on.
        port: Its port.
        made: Makes the application of them.

    Returns:
        The URL, once the service is ready.

    Raises:
        NotFoundError: There is no workspace, or no such release in it.
        IncompatibleArtefactError: An adapter was made for another base, embedder or prompt format.
        ConfigError: The port is taken, or a replica cannot be made.
    """
    check_release(args)
    check_free(host, port)
    application = made(args)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process
    logs = LoggingConfig(log_level=logging.WARNING, enable_access_log=False, encoding="JSON")
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config=logs)
    _run(application, logs)
    url = f"http://{_reachable(host)}:{port}"
    _wait_until_ready(url)
    return url


def stop_service(*, ray_ends_too: bool = False) -> None:
    """Ends the application, and Serve where it runs no other; requests in flight get some seconds to end.

    Args:
        ray_ends_too: Leave Serve to the end of Ray that follows, which takes less time.
    """
    if APPLICATION in serve.status().applications:
        serve.delete(APPLICATION)
    if not ray_ends_too and not serve.status().applications:
        serve.shutdown()  # type: ignore[no-untyped-call]


def _run(application: serve.Application, logs: LoggingConfig) -> None:
    try:
        serve.run(application, name=APPLICATION, route_prefix="/", logging_config=logs)
    except RuntimeError as error:
        raise ConfigError(
            f"The service did not start: {error} Look into the logs of Serve, under /tmp/ray by default."
        ) from error


def _wait_until_ready(url: str) -> None:
    """Waits for the proxy, which learns of a new application a moment after it runs."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=READY_TIMEOUT_S):
                return
        except OSError:  # refused, 404 or 503: not yet
            time.sleep(0.2)
    raise ConfigError(
        f"The service runs, but {url}/readyz did not answer within {READY_TIMEOUT_S:g} s. Look into the logs"
        " of Serve, under /tmp/ray by default; on a cluster use `serve deploy` and its own address."
    )


def check_free(host: str, port: int) -> None:
    """Checks that a port can be listened on.

    Raises:
        ConfigError: It cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} of {host!r} cannot be used: {error.strerror}."
                " Choose another with --port and --host."
            ) from None


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared with, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
