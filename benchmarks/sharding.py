"""P11: shards give what one index gives, and a language's own shard answers sooner than a search over all.

    python benchmarks/sharding.py --workspace W --corpus panx --limit 2000

Context vectors of every indexed language of the corpus, one thread. First the same flat vectors in one shard
and in eight must give the same rows for every query, else nothing is timed. Then single queries, as a service
asks them, go to their own language and to all languages in turn.

Not covered: entity indexes, many queries at once, indexes larger than memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import flags, parsed, result, workspace_flags, write

from retrieveall.corpus.limits import limited
from retrieveall.embedding.protocol import Vectors
from retrieveall.retrieval import Retriever, corpus_indexes
from retrieveall.retrieval.shards import IndexKind, ShardSet, build_index
from retrieveall.workspace import Workspace

K = 20
SHARDS = 8
KINDS: tuple[IndexKind, ...] = ("flat", "ivf")


def main() -> None:
    """Measures and writes ``sharding-<corpus>``."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=200, help="Queries per language.")
    arguments = parsed(parser)
    rows, queries = vectors(Workspace.open(arguments.workspace), arguments.corpus, arguments.limit)
    one_query = np.concatenate(list(queries.values()))
    assert_same_rows(np.concatenate(list(rows.values())), one_query)
    timings = {kind: measure(kind, rows, queries) for kind in KINDS}
    flat = timings["flat"]["samples"]
    record = result(
        "P11",
        "a query over all languages ÷ over its own, flat",
        [b / a for a, b in zip(flat["own"], flat["all"], strict=True)],
        goal=5.0,
        sides={
            f"{kind}, {name}": timings[kind]["samples"][name] for kind in KINDS for name in ("own", "all")
        },
        sides_unit="milliseconds a query",
        kinds={kind: {name: timings[kind][name] for name in ("own", "all", "ratio")} for kind in KINDS},
        identical_rows=True,
        setup={
            "k": K,
            "corpus": arguments.corpus,
            "rows": {code: len(one) for code, one in rows.items()},
            "queries": len(one_query),
            "dimensions": one_query.shape[1],
        },
    )
    write(record, arguments.results, draw(timings), name=f"sharding-{arguments.corpus}")


def vectors(workspace: Workspace, corpus: str, limit: int) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    """Returns, by language, the vectors of its training and of its test sentences."""
    found = corpus_indexes(workspace.indexes, corpus)
    rows, queries = {}, {}
    for code, index in Retriever.open(workspace.indexes, found).indexes.items():
        texts = [index.contexts.text(row) for row in range(len(index.contexts))]
        rows[code] = index.embedder.embed_texts(texts)
        tests = workspace.corpora.load(corpus, code, "test")
        queries[code] = index.embedder.embed_texts([tests[i].text for i in limited(len(tests), limit)])
    return rows, queries


def assert_same_rows(rows: Vectors, queries: Vectors) -> None:
    """Raises AssertionError unless one shard and several agree on every row."""
    parts = [build_index(part, "flat") for part in np.array_split(rows, SHARDS)]
    _, one = ShardSet([build_index(rows, "flat")], rows.shape[1]).search(queries, K)
    _, several = ShardSet(parts, rows.shape[1]).search(queries, K)
    assert np.array_equal(one, several), f"{(one != several).any(axis=1).sum()} queries differ"


def measure(kind: IndexKind, rows: dict[str, Vectors], queries: dict[str, Vectors]) -> dict[str, Any]:
    """Returns the median milliseconds of a query over its own language and over all, their ratio, and all."""
    own = {code: ShardSet([build_index(one, kind)], one.shape[1]) for code, one in rows.items()}
    together = np.concatenate(list(rows.values()))
    everything = ShardSet([build_index(together, kind)], together.shape[1])
    milliseconds: dict[str, list[float]] = {"own": [], "all": []}
    for code, batch in queries.items():
        for query in batch:
            for name, shards in (("own", own[code]), ("all", everything)):
                milliseconds[name].append(timed_ms(shards, query[None]))
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    return {**medians, "ratio": medians["all"] / medians["own"], "samples": milliseconds}


def timed_ms(shards: ShardSet, query: Vectors) -> float:
    """Returns the milliseconds of one search."""
    began = time.perf_counter()
    shards.search(query, K)
    return 1000 * (time.perf_counter() - began)


def draw(timings: dict[IndexKind, dict[str, Any]]) -> Figure:
    """Draws the milliseconds of both searches for each kind."""
    figure = Figure(figsize=(5.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    kinds: Sequence[IndexKind] = list(timings)
    for shift, (name, label) in enumerate((("own", "own language"), ("all", "all languages"))):
        places = [place + 0.36 * (shift - 0.5) for place in range(len(kinds))]
        axes.bar(places, [timings[kind][name] for kind in kinds], width=0.34, label=label)
    axes.set_xticks(range(len(kinds)), [f"{kind}: {timings[kind]['ratio']:.1f} ×" for kind in kinds])
    axes.set(ylabel="milliseconds a query")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
