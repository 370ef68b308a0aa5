"""P12: routing accuracy and speed of all routers on a corpus's test sentences, side by side.

    python benchmarks/routing.py --workspace W --corpus panx --limit 2000

They route the same sentences, one thread each; times are medians over chunks, interleaved. Then one
language after the other is left out of the pool: how many of its sentences are seen to be of no language of
the pool, with thresholds that call at most 1 % of the others' dev sentences unknown? That depends on where
few dev sentences put the thresholds, so the area under the ROC curve of the similarity stands beside it: how
often a sentence of the missing language is less similar to the pool than one of the pool's. Last, `linear`
with random weights over 1,000 languages, for its speed there.

Not covered: documents whose sentences lean on each other, and languages that have no index at all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from measuring import flags, parsed, result, workspace_flags, write
from numpy.typing import NDArray
from recording import test_sentences

from retrieveall.retrieval import Retriever, corpus_indexes
from retrieveall.route_settings import with_fitted_settings
from retrieveall.routing import (
    ROUTERS,
    LinearScorer,
    LinearWeights,
    RouterName,
    learn_from_indexes,
    open_router,
)
from retrieveall.routing.learning import table_size
from retrieveall.routing.scorer import Floats
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
        "routing accuracy, linear − lingua",
        [routers["linear"]["accuracy"] - routers["langid"]["accuracy"]],
        goal=0.0,
        unit="accuracy",
        sides={name: values["samples"] for name, values in routers.items()},
        sides_unit="sentences a second",
        routers=routers,
        unknown={
            name: {code: masked(workspace, digests, retriever, sentences, code, name) for code in digests}
            for name in ("linear", "vote")
        },
        learn_s=learning_s(retriever),
        many=many_languages([row.text for row in sentences[:CHUNK]]),
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
    name: RouterName,
) -> dict[str, float]:
    """Returns the shares of unknown sentences when the pool has no `code`: of `code`, and of the others."""
    pool = {other: digest for other, digest in digests.items() if other != code}
    opened = open_router(name, {other: retriever.indexes[other] for other in pool})
    router = with_fitted_settings(workspace, pool, opened, neighbours=DEFAULT_K)
    texts = [row.text for row in sentences]
    foreign = np.array([row.language == code for row in sentences])
    unknown = np.array([not route.known for route in router.route(texts).routes])
    return {
        "masked": float(unknown[foreign].mean()),
        "pool": float(unknown[~foreign].mean()),
        "area": area(router.scorer.score(texts).similarity, foreign),
    }


def area(similarity: Floats, foreign: NDArray[np.bool_]) -> float:
    """Returns how often a foreign sentence is less similar than one of the pool; ties count half."""
    own = np.sort(similarity[~foreign])
    above = len(own) - np.searchsorted(own, similarity[foreign], side="right")
    level = np.searchsorted(own, similarity[foreign], side="right") - np.searchsorted(
        own, similarity[foreign], side="left"
    )
    return float((above + level / 2).mean() / len(own))


def learning_s(retriever: Retriever) -> float:
    """Returns the seconds in which `linear` learns the indexes' sentences."""
    began = time.perf_counter()
    learn_from_indexes(retriever.indexes)
    return time.perf_counter() - began


def many_languages(texts: Sequence[str], languages: int = 1_000) -> dict[str, float]:
    """Returns the speed of `linear` over so many languages; what it answers does not matter."""
    rows, slots = table_size(languages)
    generator = np.random.default_rng(0)
    weights = LinearWeights(
        languages=tuple(f"l{number:03d}" for number in range(languages)),
        rows_RL=torch.from_numpy(generator.standard_normal((rows, languages), np.float32)),
        seen=np.zeros((languages, slots // 8), np.uint8),
    )
    scorer = LinearScorer(weights)
    scorer.score(texts)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        scorer.score(texts)
        seconds.append(time.perf_counter() - began)
    return {"languages": languages, "sentences_per_s": len(texts) / statistics.median(seconds)}


def draw(routers: Mapping[str, Any]) -> Figure:
    """Draws accuracy per language of each router."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for shift, (name, values) in enumerate(routers.items()):
        places = [place + 0.2 * (shift - 1.5) for place in range(len(values["by_language"]))]
        label = f"{name}: {values['accuracy']:.3f}, {values['sentences_per_s']:.0f}/s"
        axes.bar(places, list(values["by_language"].values()), width=0.19, label=label)
    axes.set_xticks(range(len(values["by_language"])), list(values["by_language"]))
    axes.set(ylabel="routing accuracy", ylim=(0.0, 1.0))
    figure.legend(loc="outside upper center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
