"""Ray heads of the tests' own on this machine: own ports, own folder, own token, ended with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
_STARTS = 6  # Ray gives its processes 30 s, which a busy machine may not have
_UP_S = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A running head.

    Attributes:
        address: Of its dashboard, where jobs are submitted.
        gcs: What ``RAY_ADDRESS`` names.
        environment: For processes that shall talk to it.
        process: Whose process group holds all of it.
    """

    address: str
    gcs: str
    environment: Mapping[str, str]
    process: int

    def kill(self) -> None:
        """Takes it away as if its plug were pulled."""
        os.killpg(self.process, signal.SIGKILL)


@contextlib.contextmanager
def local_head(*, cpus: int = 2, token: str | None = None, code: Path | None = None) -> Iterator[Head]:
    """Starts a head and ends it.

    Args:
        cpus: That it may give away.
        token: Without which nobody may use it.
        code: Where its processes find the packages, as if they were installed.
    """
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept.pop("PYTHONPATH", None)
    if code is not None:
        kept["PYTHONPATH"] = str(code)
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])  # its `python` is ours
    # Ray gives workers the lowest priority, which on a busy machine is none
    environment = {**kept, **auth, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    folder = Path(tempfile.mkdtemp(prefix="ra-", dir="/tmp"))  # sockets need a short path
    process, head = _started(folder, cpus, environment)
    try:
        yield head
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, cpus: int, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Head]:
    """Starts it; again where a busy machine was too slow for Ray."""
    for _ in range(_STARTS):
        gcs, dashboard, *others = free_ports(7)
        process = _start(folder, cpus, [gcs, dashboard, *others], environment)
        head = Head(
            address=f"http://127.0.0.1:{dashboard}",
            gcs=f"127.0.0.1:{gcs}",
            environment=dict(environment),
            process=process.pid,
        )
        if _is_up(process, head, folder / "log"):
            return process, head
        _end(process)
    raise RuntimeError(f"Ray did not start: {(folder / 'log').read_text()[-2000:]}")


def _start(
    folder: Path, cpus: int, ports: list[int], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    gcs, dashboard, agent, agent_grpc, runtime_env, metrics, client = map(str, ports)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    flags = {
        "--node-ip-address": "127.0.0.1",
        "--port": gcs,
        "--dashboard-host": "127.0.0.1",
        "--dashboard-port": dashboard,
        "--dashboard-agent-listen-port": agent,
        "--dashboard-agent-grpc-port": agent_grpc,
        "--runtime-env-agent-port": runtime_env,
        "--metrics-export-port": metrics,
        "--ray-client-server-port": client,
        "--num-cpus": str(cpus),
        "--temp-dir": str(folder / "ray"),
        "--object-store-memory": str(200 << 20),
    }
    words = [word for pair in flags.items() for word in pair]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, *words],
            env=dict(environment),
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _is_up(process: subprocess.Popen[bytes], head: Head, log: Path) -> bool:
    """Waits until all of it runs: the dashboard may answer while Ray still waits for other processes."""
    deadline_s = time.monotonic() + _UP_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if b"Ray runtime started" in log.read_bytes() and _answers(head):
            return True
        time.sleep(0.5)
    return False


def _answers(head: Head) -> bool:
    token = head.environment.get("RAY_AUTH_TOKEN", "")
    request = urllib.request.Request(
        f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the head and all processes of its session."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
