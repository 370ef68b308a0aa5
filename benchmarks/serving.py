"""A running service for benchmarks: a Ray of its own, the whole application, and how to ask it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from retrieveall.cli.process import ray_running, set_defaults

_READY_WITHIN_S = 180.0


@dataclass(frozen=True)
class Service:
    """A service that runs."""

    url: str

    def client(self, *, connections: int = 1, timeout_s: float = 120.0) -> httpx.Client:
        """Returns a client with connections of its own."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.Client(base_url=self.url, timeout=timeout_s, limits=limits)

    def wait_until_ready(self) -> float:
        """Waits until everything answers; returns the seconds that took.

        Raises:
            AssertionError: It did not come.
        """
        began_s = time.monotonic()
        while time.monotonic() < began_s + _READY_WITHIN_S:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200:
                    return time.monotonic() - began_s
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"{self.url}/readyz did not answer within {_READY_WITHIN_S:g} s")


@contextmanager
def serving(workspace: str, made: Callable[[Any], Any] | None = None, **args: Any) -> Iterator[Service]:
    """Starts Ray and the service for the block, and ends both.

    Args:
        workspace: Whose current release is served.
        made: Makes the application of its `ServeArgs`; None for the one that users have.
        args: Further `serve_apps.args.ServeArgs`.
    """
    set_defaults()
    from serve_apps.app import build
    from serve_apps.args import ServeArgs
    from serve_apps.running import start_service, stop_service

    with ray_running() as ends:
        try:
            sized = ServeArgs(workspace=os.path.abspath(workspace), keys="off", **args)
            yield Service(start_service(sized, host="127.0.0.1", port=free_port(), made=made or build))
        finally:
            stop_service(ray_ends_too=ends)


def free_port() -> int:
    """Returns a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_named(title: str) -> list[int]:
    """Returns the processes that this one started, directly or not, whose command line holds a title."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="latin-1") as stat:
                    parents[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
                with open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as line:
                    titles[int(entry)] = line.read()
            except OSError:  # it has ended
                continue
    ours = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= found
    return [pid for pid in sorted(ours - {os.getpid()}) if title in titles.get(pid, "")]
