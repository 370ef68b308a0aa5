"""P12: routing accuracy and speed of vote, centroid and lingua on a corpus's test sentences, side by side.

    python benchmarks/routing.py --workspace W --corpus panx --limit 2000

The three route the same sentences, one thread each; times are medians over chunks, interleaved. Then one
language after the other is left out of the pool: how many of its sentences are seen to be of no language of
the pool, with thresholds that call at most 1 % of the others' dev sentences unknown?
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
from matplotlib.figure import Figure

from retrieveall.corpus.limits import limited
from retrieveall.evaluation.plots import save_png
from retrieveall.retrieval import Retriever, corpus_indexes
from retrieveall.route_settings import with_fitted_settings
from retrieveall.routing import ROUTERS, open_router
from retrieveall.routing.vote import DEFAULT_K
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
CHUNK = 250


def main() -> None:
    """Measures and writes ``routing-<corpus>.json`` and ``.png``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workspace", default=os.environ.get("RETRIEVEALL_WORKSPACE", "workspace"))
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--limit", type=int, default=2000)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    workspace = Workspace.open(arguments.workspace)
    digests = corpus_indexes(workspace.indexes, arguments.corpus)
    retriever = Retriever.open(workspace.indexes, digests)
    sentences = test_sentences(workspace, arguments.corpus, sorted(retriever.indexes), arguments.limit)
    result = measure(retriever, sentences)
    result["unknown"] = {
        code: masked(workspace, digests, retriever, sentences, code) for code in sorted(digests)
    }
    result |= {
        "id": "P12",
        "unit": "accuracy; sentences per second",
        "setup": {"threads": 1, "corpus": arguments.corpus, "sentences": len(sentences)},
    }
    name = f"routing-{arguments.corpus}"
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    save_png(draw(result["routers"]), RESULTS / f"{name}.png")


def test_sentences(workspace: Workspace, corpus: str, languages: Sequence[str], limit: int) -> list[Sentence]:
    """Returns test sentences, languages in turn."""
    store = workspace.corpora
    by_language = []
    for language in languages:
        rows = store.load(corpus, language, "test")
        by_language.append([rows[i] for i in limited(len(rows), limit)])
    return [row for rows in zip(*by_language, strict=True) for row in rows]


def measure(retriever: Retriever, sentences: Sequence[Sentence]) -> dict[str, object]:
    """Routes every chunk with every router in turn."""
    routers = {name: open_router(name, retriever.indexes) for name in ROUTERS}
    right: dict[str, dict[str, int]] = {name: dict.fromkeys(retriever.indexes, 0) for name in routers}
    speed: dict[str, list[float]] = {name: [] for name in routers}
    for router in routers.values():
        router.route([row.text for row in sentences[:CHUNK]])  # warm-up: models load, pages are touched
    for start in range(0, len(sentences), CHUNK):
        chunk = sentences[start : start + CHUNK]
        for name, router in routers.items():
            began = time.perf_counter()
            routes = router.route([row.text for row in chunk]).routes
            speed[name].append(len(chunk) / (time.perf_counter() - began))
            for row, route in zip(chunk, routes, strict=True):
                right[name][row.language] += route.language == row.language
    each = len(sentences) // len(retriever.indexes)
    return {
        "routers": {
            name: {
                "accuracy": sum(right[name].values()) / len(sentences),
                "by_language": {code: count / each for code, count in right[name].items()},
                "sentences_per_s": statistics.median(speed[name]),
            }
            for name in routers
        }
    }


def masked(
    workspace: Workspace,
    digests: Mapping[str, str],
    retriever: Retriever,
    sentences: Sequence[Sentence],
    code: str,
) -> dict[str, float]:
    """Returns the shares of unknown sentences when the pool has no `code`: of `code`, and of the others."""
    pool = {other: digest for other, digest in digests.items() if other != code}
    scorer = open_router("vote", {other: retriever.indexes[other] for other in pool})
    router = with_fitted_settings(workspace, pool, scorer, neighbours=DEFAULT_K)
    routes = router.route([row.text for row in sentences]).routes
    unknown: dict[bool, list[bool]] = {True: [], False: []}
    for row, route in zip(sentences, routes, strict=True):
        unknown[row.language == code].append(not route.known)
    return {"masked": statistics.fmean(unknown[True]), "pool": statistics.fmean(unknown[False])}


def draw(routers: object) -> Figure:
    """Draws accuracy per language of each router."""
    assert isinstance(routers, dict)
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for shift, (name, values) in enumerate(routers.items()):
        places = [place + 0.25 * (shift - 1) for place in range(len(values["by_language"]))]
        label = f"{name}: {values['accuracy']:.3f}, {values['sentences_per_s']:.0f}/s"
        axes.bar(places, list(values["by_language"].values()), width=0.24, label=label)
    axes.set_xticks(range(len(values["by_language"])), list(values["by_language"]))
    axes.set(ylabel="routing accuracy", ylim=(0.0, 1.0))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
