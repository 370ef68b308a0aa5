"""Settings of this process and of the Ray processes it starts: threads, allocator, Ray itself.

Source of the values: measurements on small machines, where unbound OpenMP threads and an allocator
that returns its pages cost up to ten times.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

from retrieveall.errors import ConfigError

_KEEP_BYTES = 1 << 30
_MAX_INT = (1 << 31) - 1  # of C: a larger number would arrive as another, 4 GiB as 0
_RAY_STARTS = 3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

_PREEMPTION_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"  # nobody takes this machine away; it is a process

_WORKERS = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_KEEP_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(_KEEP_BYTES),
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_DEFAULTS = {
    **_WORKERS,
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_maximum_startup_concurrency": "8",  # one per CPU by default: Ray warns of its own actors
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # 5 by default: a busy machine is slower to import
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_apps.proxy:middlewares",
}


def worker_variables() -> dict[str, str]:
    """Returns what the processes of a job need, which a cluster that runs already does not set."""
    return dict(_WORKERS)


def set_defaults() -> None:
    """Sets what the environment leaves open; call it before torch, faiss or ray are imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    keep_pages()


def keep_pages() -> None:
    """Makes the allocator of this process keep freed pages (glibc only; elsewhere nothing happens)."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, min(_MAX_INT, int(os.environ["MALLOC_MMAP_THRESHOLD_"])))
        mallopt(_M_TRIM_THRESHOLD, min(_MAX_INT, int(os.environ["MALLOC_TRIM_THRESHOLD_"])))


@contextlib.contextmanager
def ray_running() -> Iterator[bool]:
    """Connects to the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine for the block.

    A Ray that is running in this process already is used and left running.

    Yields:
        Whether Ray was started for the block, and ends with it.
    """
    import logging

    import ray

    if ray.is_initialized():
        yield False
        return
    local = not os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"include_dashboard": False} if local else {}
    if local:
        os.environ.setdefault(_PREEMPTION_WATCHER, "0")
    _start_ray(
        address="local" if local else None, logging_level=logging.ERROR, log_to_driver=False, **options
    )
    _keep_logs_in_files()
    try:
        yield local
    finally:
        ray.shutdown()


def gpus_wanted(wanted: float | None) -> float:
    """Returns the GPUs of one worker or replica; asked for none in particular, one where Ray has one.

    Raises:
        ConfigError: This machine has fewer; a cluster may still grow.
    """
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    there = resources.get("GPU", 0.0)
    if wanted is None:
        return min(1.0, there)
    if wanted > there and not os.environ.get("RAY_ADDRESS"):
        raise ConfigError(
            f"{wanted:g} GPUs were asked for, this machine has {there:g}. Ask for fewer, or name a cluster"
            " with RAY_ADDRESS."
        )
    return wanted


def _start_ray(**options: Any) -> None:
    """Starts Ray, again where its processes were not up within the 30 s that it gives them."""
    import ray

    for attempt in range(1, _RAY_STARTS + 1):
        try:
            ray.init(**options)
        except Exception as error:  # ray raises no narrower class here
            ray.shutdown()
            if attempt == _RAY_STARTS or "timed out" not in str(error).lower():
                raise
        else:
            return


def _keep_logs_in_files() -> None:
    """Leaves only errors of Ray Data and Ray Train on the terminal; their log files keep everything."""
    import logging

    import ray.data  # noqa: F401  # hangs up its handlers when it is imported

    for name in ("ray.data", "ray.train"):
        for handler in logging.getLogger(name).handlers:
            if type(handler).__name__ == "PlainRayHandler":
                handler.setLevel(logging.ERROR)
