"""Memory of the offline job from ten thousand to a million rows.

    python benchmarks/offline_memory.py --workspace W --corpus panx      # half an hour

The whole job of `retrieveall tag --input` runs once for each size: planning, Ray Data, fragments of 1,000
rows, Parquet, summary. Texts are test sentences of all languages, over and over, each with a number, so that
no two are equal. An echo engine stands in for the model and prompts show no examples, so that a million rows
take half an hour: what grew would be the job, not the model. The resident memory of this process
(the driver) and of the worker is read every second; the value is the worker's highest with the largest input
÷ with the smallest.

Not covered: memory of base, adapters and indexes, which does not depend on the input; several workers.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import patch

from matplotlib.figure import Figure
from measuring import flags, parsed, result, workspace_flags, write
from recording import test_sentences
from serving import children_named

import train_jobs.tag_corpus
from retrieveall.cli.process import ray_running, set_defaults
from retrieveall.engine.echo import EchoEngine
from retrieveall.generation import Generator
from retrieveall.models.base import open_base
from retrieveall.offline.job import FragmentTagger, TagJob
from retrieveall.offline.options import TagOptions
from retrieveall.opening import OpenOptions, open_release_router, open_retriever, read_release
from retrieveall.tagger import Tagger
from retrieveall.workspace import Workspace
from train_jobs.pool import PoolResources
from train_jobs.tag_corpus import TagRequest, TagWorker, tag_corpus

_WORKER = "MapWorker"
_EVERY_S = 1.0
_MIB = 1 << 20
_SENTENCES = 1000  # of each language, over and over


class EchoWorker(TagWorker):
    """The job's worker with an engine that answers at once."""

    def __init__(self, *, workspace: Workspace, job: TagJob, threads: int) -> None:
        opened = read_release(workspace, OpenOptions(release=job.release))
        router = open_release_router(
            workspace, opened, open_retriever(workspace, opened), job.options.routing
        )
        codec = open_base(opened.base_model).codec
        tagger = Tagger(
            release=job.release,
            adapters=opened.adapters,
            router=router,
            retriever=None,
            generator=Generator(EchoEngine(codec), codec),
        )
        self._tagger = FragmentTagger(job, tagger)


def main() -> None:
    """Measures and writes ``offline-memory``."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="Rows of each job, comma-separated.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(workspace.releases.current().languages)
    texts = [row.text for row in test_sentences(workspace, arguments.corpus, languages, _SENTENCES)]
    sizes = [int(size) for size in arguments.sizes.split(",")]
    set_defaults()
    with tempfile.TemporaryDirectory() as scratch, ray_running():
        runs = [run(workspace, texts, size, Path(scratch) / str(size)) for size in sizes]
    highest = {name: [max(one[name]) for one in runs] for name in ("worker", "driver")}
    by_size = [f"{size:,} rows" for size in sizes]
    speeds = [size / one["at_s"][-1] for size, one in zip(sizes, runs, strict=True)]
    record = result(
        "offline-memory",
        f"worker's highest memory with {by_size[-1]} ÷ with {by_size[0]}",
        [highest["worker"][-1] / highest["worker"][0]],
        goal=None,
        better="lower",
        sides={f"{n}, {size}": one[n] for one, size in zip(runs, by_size, strict=True) for n in highest},
        sides_unit="MiB",
        rows_per_s=dict(zip(by_size, speeds, strict=True)),
        setup={"corpus": arguments.corpus, "sizes": sizes},
    )
    write(record, arguments.results, draw(runs, sizes))


def run(workspace: Workspace, texts: list[str], size: int, folder: Path) -> dict[str, list[float]]:
    """Runs the job on so many rows; returns the memory in MiB and when it was read, in seconds."""
    folder.mkdir()
    source = folder / "texts.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number, text in enumerate(islice(cycle(texts), size)):
            file.write(json.dumps({"text": f"{text} {number}"}, ensure_ascii=False) + "\n")
    request = TagRequest(input=str(source), output=str(folder / "out"), options=TagOptions(examples=False))
    with patch.object(train_jobs.tag_corpus, "TagWorker", EchoWorker), memory_read() as read:
        tag_corpus(workspace, request, PoolResources(actors=1))
    print(f"  {size:,} rows: {read['at_s'][-1]:.0f} s, worker {max(read['worker']):.0f} MiB", flush=True)
    return read


@contextmanager
def memory_read() -> Iterator[dict[str, list[float]]]:
    """Reads the memory of driver and worker every second, for as long as the block takes."""
    read: dict[str, list[float]] = {"at_s": [], "driver": [], "worker": []}
    ended, began_s = threading.Event(), time.monotonic()
    earlier = set(children_named(_WORKER))  # of the job before: it may not have ended yet

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            workers = set(children_named(_WORKER)) - earlier
            read["at_s"].append(time.monotonic() - began_s)
            read["driver"].append(resident_mib(os.getpid()))
            read["worker"].append(max(map(resident_mib, workers), default=0.0))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield read
    finally:
        ended.set()
        watcher.join()


def resident_mib(pid: int) -> float:
    """Returns the resident memory of a process without shared pages; 0 where it has ended."""
    try:
        words = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0.0
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE") / _MIB


def draw(runs: list[dict[str, list[float]]], sizes: list[int]) -> Figure:
    """Draws the memory over each job's course."""
    figure = Figure(figsize=(7.2, 3), layout="constrained")
    axes = figure.add_subplot()
    for run, size, colour in zip(runs, sizes, ("#7aa6c2", "#c2937a", "#9c3b3b"), strict=False):
        course = [100 * at_s / run["at_s"][-1] for at_s in run["at_s"]]
        axes.plot(course, run["worker"], color=colour, label=f"worker, {size:,} rows")
        axes.plot(course, run["driver"], ":", color=colour, label=f"driver, {size:,} rows")
    axes.set_xlabel("% of the job's time")
    axes.set_ylabel("MiB")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, ncols=len(sizes))
    return figure


if __name__ == "__main__":
    main()
