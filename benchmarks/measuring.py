"""What all benchmarks share: turns taken in one process, ratios, the facts of the run, a JSON and a picture.

Sides take turns, A, B, A, B …, after one warm-up each. A ratio is made of the two sides of one turn, so that
a machine that slows down slows both; its median is the result. Nothing here judges: timings are no tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import torch
import transformers
from matplotlib.figure import Figure

from retrieveall.evaluation.plots import save_png

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def flags(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Returns a parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="Turns of every side.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch and FAISS.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for JSON and pictures.")
    return parser


def workspace_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of benchmarks on a workspace's corpus."""
    parser.add_argument("--workspace", default=os.environ.get("RETRIEVEALL_WORKSPACE", "workspace"))
    parser.add_argument("--corpus", required=True)


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads the command line and sets the threads that it names."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    return arguments


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Seconds of every round, by side: on the wall's clock, and of the processor for this process."""

    wall_s: dict[str, list[float]]
    cpu_s: dict[str, list[float]]

    def speed_ratios(self, ours: str, other: str) -> list[float]:
        """Returns how many times as fast `ours` was in every round."""
        return [b / a for a, b in zip(self.wall_s[ours], self.wall_s[other], strict=True)]

    def cpu(self, ours: str, other: str) -> dict[str, float]:
        """Returns the same ratio in processor time, and how much of the wall's time that is.

        Where one thread has less than nine tenths of the wall's time, others used its core and the run
        should be made again.
        """
        cpu = {name: sum(self.cpu_s[name]) for name in (ours, other)}
        wall = sum(sum(self.wall_s[name]) for name in (ours, other))
        return {"ratio": cpu[other] / cpu[ours], "share_of_wall": sum(cpu.values()) / wall}


def take_turns(sides: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: bool = True) -> Turns:
    """Times every side once a round, after one warm-up each.

    Args:
        sides: What to time, by name.
        rounds: At least one.
        warm_up: False where the sides have just been called.
    """
    for call in sides.values() if warm_up else ():
        call()
    turns = Turns(wall_s={name: [] for name in sides}, cpu_s={name: [] for name in sides})
    for _ in range(rounds):
        for name, call in sides.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            call()
            turns.wall_s[name].append(time.perf_counter() - began)
            turns.cpu_s[name].append(time.process_time() - began_cpu)
    return turns


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Returns median, minimum and the values themselves."""
    return {"median": statistics.median(values), "min": min(values), "samples": list(values)}


def result(
    name: str,
    title: str,
    samples: Sequence[float],
    *,
    goal: float | None,
    sides: Mapping[str, Sequence[float]],
    setup: Mapping[str, Any],
    unit: str = "ratio",
    better: str = "higher",
    **further: Any,
) -> dict[str, Any]:
    """Makes the record of one result; its value is the median of the samples.

    Args:
        name: The id, such as ``P1``.
        title: What is divided by what.
        samples: One value a round.
        goal: What the value shall reach, None where there is no goal.
        sides: Seconds of every side, or what else was sampled on it.
        setup: Facts of this run; those of the machine are added.
        unit: Of the value.
        better: ``higher`` or ``lower``.
        further: Whatever else belongs to the result.
    """
    return {
        "id": name,
        "title": title,
        "value": statistics.median(samples),
        "minimum": min(samples),
        "goal": goal,
        "better": better,
        "unit": unit,
        "samples": list(samples),
        "sides": {side: spread(values) for side, values in sides.items()},
        **further,
        "setup": {**machine(), **setup},
    }


def machine() -> dict[str, Any]:
    """Returns what a reader must know of the machine, the versions and the code."""
    return {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "processor": _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "faiss": faiss.__version__,
        },
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def _git(*words: str) -> str:
    found = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write(record: Mapping[str, Any], folder: Path, figure: Figure | None = None, *, name: str = "") -> None:
    """Writes ``<name>.json`` and ``<name>.png`` and prints the value.

    Args:
        record: What `result` returns.
        folder: Where to.
        figure: A picture of the benchmark's own; None draws one bar for each side.
        name: Of the files; the record's id where empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = name or record["id"]
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    save_png(figure or draw_sides(record), folder / f"{name}.png")
    print(f"{record['id']}: {record['value']:.3f} (goal {record['goal']}) {record['title']}", flush=True)


def draw_sides(record: Mapping[str, Any]) -> Figure:
    """Draws the median of every side as a bar, its samples as dots."""
    sides = record["sides"]
    figure = Figure(figsize=(7.2, 0.8 + 0.42 * len(sides)), layout="constrained")
    axes = figure.add_subplot()
    for place, side in enumerate(reversed(sides.values())):
        axes.barh(place, side["median"], height=0.6, color="#7aa6c2")
        axes.plot(side["samples"], [place] * len(side["samples"]), "k.", markersize=4)
    axes.set_yticks(range(len(sides)), list(reversed(sides)))
    axes.set_xlim(left=0)
    axes.set_xlabel(record.get("sides_unit", "seconds"))
    axes.set_title(f"{record['id']}: {record['value']:.2f}   {record['title']}", fontsize=9, loc="left")
    return figure


def print_profiles(sides: Mapping[str, Callable[[], object]], operations: int = 12) -> None:
    """Prints where each side's time goes, by torch's own operations."""
    from torch.profiler import ProfilerActivity, profile

    for name, call in sides.items():
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            call()
        table = profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=operations)
        print(f"{name}\n{table}", flush=True)
