"""P9e: how soon a second replica answers after the load came, Serve's defaults ÷ ours.

    python benchmarks/scaling.py      # 2 to 4 minutes: Serve's defaults wait for half a minute, twice

One deployment that may grow from one replica to two; 64 callers start at once and ask until another replica
than the first has answered. Each side runs in a process and a Ray of its own: the defaults of Serve's
`AutoscalingConfig`, and those of `serve_apps.args.StageArgs`. The replicas hold an echo engine with a fixed
sleep per step, so the model costs nothing.

Not covered: nodes that have to be added first; replicas that load a large model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measuring import flags, parsed, result, write

from retrieveall.cli.process import ray_running, set_defaults
from retrieveall.engine.echo import EchoEngine
from retrieveall.generation import GenerationTask, Generator
from retrieveall.models.base import TINY, base_folder, open_base

_CALLERS = 64
_PATIENCE_S = 240.0


def main() -> None:
    """Measures both sides, or one of them in this process, and writes P9e."""
    parser = flags(__doc__, rounds=1)
    parser.add_argument("--side", choices=("defaults", "ours"), help=argparse.SUPPRESS)
    arguments = parsed(parser)
    if arguments.side:
        print(json.dumps(measured(arguments.side)), flush=True)
        return
    sides: dict[str, list[float]] = {"ours": [], "defaults": []}
    for _ in range(arguments.rounds):
        for side, seconds in sides.items():
            seconds.append(in_own_process(side))
            print(f"  {side}: {seconds[-1]:.1f} s", flush=True)
    record = result(
        "P9e",
        "seconds from a load step to the answer of a second replica, Serve's defaults ÷ ours",
        [b / a for a, b in zip(sides["ours"], sides["defaults"], strict=True)],
        goal=5.0,
        sides=sides,
        setup={"callers": _CALLERS},
    )
    write(record, arguments.results)


def in_own_process(side: str) -> float:
    """Returns the seconds of one side."""
    done = subprocess.run(
        [sys.executable, __file__, "--side", side],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def measured(side: str) -> float:
    """Returns the seconds from the load to the answer of a second replica.

    Raises:
        AssertionError: None came.
    """
    set_defaults()
    from ray import serve

    with ray_running():
        plain: Any = deployment_of(side)
        handle: Any = serve.run(plain.bind(), name="scaling", route_prefix=None)
        first = handle.work.remote().result(timeout_s=60)
        other, began_s = threading.Event(), time.monotonic()
        came_s: list[float] = []

        def ask_on(_: int) -> None:
            while not other.is_set() and time.monotonic() < began_s + _PATIENCE_S:
                if handle.work.remote().result(timeout_s=120) != first:
                    came_s.append(time.monotonic() - began_s)
                    other.set()

        with ThreadPoolExecutor(_CALLERS) as pool:
            list(pool.map(ask_on, range(_CALLERS)))
        assert came_s, f"no second replica within {_PATIENCE_S:g} s"
        return min(came_s)


def deployment_of(side: str) -> Any:
    """Returns the deployment with the settings of a side."""
    from ray import serve
    from ray.serve.config import AutoscalingConfig

    from serve_apps.app import deployment
    from serve_apps.args import StageArgs

    class Echo:
        def __init__(self) -> None:
            codec = open_base(str(base_folder(TINY))).codec
            engine = EchoEngine(codec, max_batch_rows=8, sleep_s_per_step=0.02)
            self._generator = Generator(engine, codec)
            self._task = GenerationTask(text="Anna met Boris in Leeds.", labels=("PER",), adapters=())

        def work(self) -> str:
            self._generator.generate([self._task])
            return str(serve.get_replica_context().replica_id.unique_id)

    sizes = StageArgs(replicas=1, max_replicas=2, cpus=0.1)
    ours = deployment("echo", Echo, sizes)
    if side == "ours":
        return ours
    plain: Any = ours
    return plain.options(autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=2))


if __name__ == "__main__":
    main()
