"""P10: the offline job ÷ a plain loop over the same engine.

    python benchmarks/offline.py --workspace W --corpus panx      # about 10 minutes on two cores

Test sentences of all languages, mixed, one a line of a JSONL file. The job is `retrieveall tag --input`, with
one worker on a Ray that runs already: planning, a worker that opens base, adapters and indexes, fragments,
Parquet, summary. The loop has none of that: it opens the tagger in this process, reads the lines, tags them
as many at a time and as many in flight as the job's worker does, and writes one Parquet file. Both open the
release in each turn, and both must find the same entities (one sentence in a thousand may differ: other rows
share a batch, so sums have another order).

A job's start is paid once, whatever its size: so the ratio rises with the rows. A turn should take a minute
or more. Not covered: several workers, remote files.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import flags, parsed, result, take_turns, workspace_flags, write
from recording import test_sentences

from retrieveall.answer import AnswerOptions, answer_body
from retrieveall.cli.process import ray_running, set_defaults
from retrieveall.offline.options import TagOptions
from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.workspace import Workspace
from train_jobs.pool import PoolResources
from train_jobs.tag_corpus import FRAGMENTS_AT_ONCE, TagRequest, tag_corpus

_Spans = list[tuple[int, int, str]]


def main() -> None:
    """Measures and writes P10.

    Raises:
        AssertionError: The two find different entities.
    """
    parser = flags(__doc__, rounds=2)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=400, help="Test sentences per language.")
    parser.add_argument("--rows", type=int, default=200, help="Rows of a fragment.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(workspace.releases.current().languages)
    rows = test_sentences(workspace, arguments.corpus, languages, arguments.limit)
    random.Random(0).shuffle(rows)
    set_defaults()
    with tempfile.TemporaryDirectory() as scratch, ray_running():
        source = Path(scratch) / "texts.jsonl"
        lines = [json.dumps({"text": row.text}, ensure_ascii=False) for row in rows]
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        outputs = (Path(scratch) / f"out-{turn}" for turn in count())
        sides: dict[str, Callable[[], list[_Spans]]] = {
            "job": lambda: job(workspace, source, next(outputs), arguments.rows, arguments.threads),
            "loop": lambda: loop(workspace, source, next(outputs), arguments.rows, arguments.threads),
        }
        ours, theirs = (call() for call in sides.values())
        differing = sum(a != b for a, b in zip(ours, theirs, strict=True))
        assert differing <= max(1, len(rows) // 1000), f"{differing} of {len(rows)} texts differ"
        turns = take_turns(sides, arguments.rounds, warm_up=False)
    record = result(
        "P10",
        "offline job with one worker ÷ plain loop over the same engine, opening included",
        turns.speed_ratios("job", "loop"),
        goal=0.92,
        sides=turns.wall_s,
        checks={"texts_compared": len(rows), "texts_differing": differing},
        rows_per_s={name: len(rows) / statistics.median(s) for name, s in turns.wall_s.items()},
        setup={"corpus": arguments.corpus, "texts": len(rows), "rows_per_fragment": arguments.rows},
    )
    write(record, arguments.results)


def job(workspace: Workspace, source: Path, output: Path, rows: int, threads: int) -> list[_Spans]:
    """Runs the job into a new folder; returns every row's entities and deletes the folder."""
    request = TagRequest(input=str(source), output=str(output), options=TagOptions(rows_per_fragment=rows))
    tag_corpus(workspace, request, PoolResources(actors=1, cpus_per_actor=threads))
    return found_in(output, pq.read_table(output / "rows").sort_by("row"))


def loop(workspace: Workspace, source: Path, output: Path, rows: int, threads: int) -> list[_Spans]:
    """Does the same with neither Ray nor fragments."""
    texts = [json.loads(line)["text"] for line in source.read_text(encoding="utf-8").splitlines()]
    parts = [texts[start : start + rows] for start in range(0, len(texts), rows)]
    options = OpenOptions(threads=threads)
    with open_tagger(workspace, options) as opened, ThreadPoolExecutor(FRAGMENTS_AT_ONCE) as pool:
        bodies = list(pool.map(partial(_body, opened.tagger), parts))
    results = [one for body in bodies for one in body["results"]]
    output.mkdir()
    table = pa.table({"text": texts, "entities": [one["entities"] for one in results]})
    pq.write_table(table, output / "rows.parquet")
    return found_in(output, table)


def _body(tagger: Any, part: list[str]) -> dict[str, Any]:
    return answer_body(tagger.release, part, tagger.tag(part), AnswerOptions())


def found_in(output: Path, table: pa.Table) -> list[_Spans]:
    """Returns each row's entities; deletes the folder."""
    shutil.rmtree(output)
    return [
        [(one["start_char"], one["end_char"], one["label"]) for one in entities]
        for entities in table["entities"].to_pylist()
    ]


if __name__ == "__main__":
    main()
