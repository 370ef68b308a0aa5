"""P12: routing accuracy and speed of vote, centroid and lingua on a corpus's test sentences, side by side.

    python benchmarks/routing.py --workspace W --corpus panx --limit 2000

The three route the same sentences, one thread each; times are medians over chunks, interleaved. Then one
language after the other is left out of the pool: how many of its sentences are seen to be of no language of
the pool, with thresholds that call at most 1 % of the others' dev sentences unknown?

Not covered: documents whose sentences lean on each other, and languages that have no index at all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from measuring import flags, parsed, result, workspace_flags, write
from recording import test_sentences

from retrieveall.retrieval import Retriever, corpus_indexes
from retrieveall.route_settings import with_fitted_settings
from retrieveall.routing import ROUTERS, open_router
from retrieveall.routing.vote import DEFAULT_K
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace

CHUNK = 250


def main() -> None:
    """Measures and writes ``routing-<corpus>``."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=2000, help="Test sentences per language.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    digests = corpus_indexes(workspace.indexes, arguments.corpus)
    retriever = Retriever.open(workspace.indexes, digests)
    sentences = test_sentences(workspace, arguments.corpus, sorted(retriever.indexes), arguments.limit)
    routers = measure(retriever, sentences)
    record = result(
        "P12",
        "routing accuracy, vote − lingua",
        [routers["vote"]["accuracy"] - routers["langid"]["accuracy"]],
        goal=0.0,
        unit="accuracy",
        sides={name: values["samples"] for name, values in routers.items()},
        sides_unit="sentences a second",
        routers=routers,
        unknown={code: masked(workspace, digests, retriever, sentences, code) for code in sorted(digests)},
        setup={"corpus": arguments.corpus, "sentences": len(sentences)},
    )
    write(record, arguments.results, draw(routers), name=f"routing-{arguments.corpus}")


def measure(retriever: Retriever, sentences: Sequence[Sentence]) -> dict[str, Any]:
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
        name: {
            "accuracy": sum(right[name].values()) / len(sentences),
            "by_language": {code: count / each for code, count in right[name].items()},
            "sentences_per_s": statistics.median(speed[name]),
            "samples": speed[name],
        }
        for name in routers
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


def draw(routers: Mapping[str, Any]) -> Figure:
    """Draws accuracy per language of each router."""
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
