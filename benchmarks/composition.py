"""A language without an adapter: which of the others' adapters should answer for it, and how together?

    retrieveall experiment run benchmarks/plans/panx-own-1000.yaml
    python benchmarks/composition.py --workspace W

Each language of the plan in turn is taken out of the pool: `linear` routes its test sentences among the
others, and their monolingual adapters, those of the arm's first seed, answer. LoraRetriever's compositions:
`selection` of the first, `mixture` and `fusion` of the first two or three; examples come from the first. The
papers' method, without the prior. Beside them `own`: the language's own adapter, had it been there.

Writes the F1 of every composition and paired tests to composition-PLAN.json, with a picture.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from measuring import RESULTS, parsed

import retrieveall.tagger
from retrieveall.cli.session import claim_base
from retrieveall.corpus.limits import limited
from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.language import LanguageReport, evaluate
from retrieveall.evaluation.plots import save_png, series_style
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.experiments.arms import planned_arms
from retrieveall.experiments.plan import read_plan
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.opening import OpenOptions, open_engine, open_release_router, open_retriever, read_release
from retrieveall.routing import Routed
from retrieveall.tagger import SentenceRouter, Tagger, TextInput
from retrieveall.types import Composition, Entity, Sentence
from retrieveall.workspace import Workspace

_PLAN = Path(__file__).parent / "plans" / "panx-own-1000.yaml"
_COMPOSITIONS: tuple[tuple[Composition, int], ...] = (
    ("selection", 1),
    ("mixture", 2),
    ("mixture", 3),
    ("fusion", 2),
    ("fusion", 3),
)
_CHUNK = 128
retrieveall.tagger.MIXTURE_ADAPTERS = max(count for _, count in _COMPOSITIONS)


def main() -> None:
    """Measures every composition and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", default=os.environ.get("RETRIEVEALL_WORKSPACE", "workspace"))
    parser.add_argument("--plan", type=Path, default=_PLAN)
    parser.add_argument(
        "--arm", default="monolingual", help="Of the plan; with an adapter for each language."
    )
    parser.add_argument("--limit", type=int, default=400, help="Test sentences per language.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for JSON and the picture.")
    arguments = parsed(parser)
    workspace, plan = Workspace.open(arguments.workspace), read_plan(arguments.plan)
    arms = planned_arms(workspace, plan, claim_base(workspace, None))
    manifest, _ = next(arm for arm in arms if arm.title == arguments.arm).kept(workspace)
    scored: dict[str, list[LanguageReport]] = {}
    for code in plan.languages:
        store = workspace.corpora
        test = store.load(plan.corpus, code, "test")
        gold = [test[place] for place in limited(len(test), arguments.limit)]
        seen = SeenInTraining.of(store.load(plan.corpus, code, "train"))
        answers = without(workspace, manifest.adapters, code, gold, arguments.threads)
        for name, found in answers.items():
            scored.setdefault(name, []).append(evaluate(gold, found, seen=seen))
            print(f"{code} {name}: F1 {scored[name][-1].strict.f1:.3f}", flush=True)
    reports = [EvalReport.of(some, name=name, settings={}) for name, some in scored.items()]
    tests = [
        asdict(compare(one, other, view=view))
        for place, one in enumerate(reports[:-1])
        for other in reports[place + 1 : -1]
        for view in ("strict", "unseen")
    ]
    body = {"reports": {one.name: one.to_dict() for one in reports}, "paired": tests}
    name = f"composition-{plan.name}"
    (arguments.results / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    save_png(draw(body["reports"]), arguments.results / f"{name}.png")


def draw(reports: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws the F1 of every composition with its interval, by the language that is missing."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, report) in enumerate(reports.items()):
        scores = report["languages"].values()
        places = [place + 0.13 * (number - (len(reports) - 1) / 2) for place in range(len(scores))]
        spread = [
            [one["f1"] - one["f1_low"] for one in scores],
            [one["f1_high"] - one["f1"] for one in scores],
        ]
        style = series_style(number)
        axes.errorbar(places, [one["f1"] for one in scores], yerr=spread, fmt="none", ecolor=style["color"])
        axes.plot(places, [one["f1"] for one in scores], linestyle="none", label=name, **style)
    axes.set_xticks(range(len(scores)), list(report["languages"]))
    axes.set_ylabel("strict F1")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def without(
    workspace: Workspace, adapters: Mapping[str, str], code: str, gold: Sequence[Sentence], threads: int
) -> dict[str, list[tuple[Entity, ...]]]:
    """Returns by composition what is found in a language's sentences without its adapter; last, with it."""
    others = {other: digest for other, digest in adapters.items() if other != code}
    found = {}
    for pool, language in ((others, None), ({code: adapters[code]}, code)):
        options = OpenOptions(languages=tuple(pool), adapters=pool, prior=False, threads=threads)
        opened = read_release(workspace, options)
        retriever = open_retriever(workspace, opened, prior=False)
        router = open_release_router(workspace, opened, retriever, "linear")
        engine = open_engine(workspace, opened, workspace.settings(), threads=threads)
        for composition, count in _COMPOSITIONS if language is None else (("own", 1),):
            tagger = Tagger(
                release=0,
                adapters=opened.adapters,
                router=_FirstOf(router, count),
                retriever=retriever,
                generator=(_Fusing if composition == "fusion" else Generator)(engine, engine.codec),
            )
            name = composition if count == 1 else f"{composition} of {count}"
            found[name] = _tagged(tagger, gold, language)
        engine.close()
    return found


def _tagged(tagger: Tagger, gold: Sequence[Sentence], language: str | None) -> list[tuple[Entity, ...]]:
    found = []
    for start in range(0, len(gold), _CHUNK):
        inputs = [TextInput(text=one.text, language=language) for one in gold[start : start + _CHUNK]]
        found += [answer.entities for answer in tagger.tag(inputs, split=False)]
    return found


class _FirstOf:
    """A router whose sentences are unknown, with the first languages of the ranking; of one, known."""

    def __init__(self, router: SentenceRouter, count: int) -> None:
        self._router, self._count = router, count

    def route(self, texts: Sequence[str], *, documents: Sequence[int] | None = None) -> Routed:
        routed = self._router.route(texts, documents=documents)
        count = self._count
        routes = (replace(one, ranking=one.ranking[:count], known=count == 1) for one in routed.routes)
        return replace(routed, routes=tuple(routes))


class _Fusing(Generator):
    """A generator that fuses what the tagger would mix."""

    def generate(self, tasks: Sequence[GenerationTask]) -> list[Generated]:
        return super().generate([replace(task, composition="fusion") for task in tasks])


if __name__ == "__main__":
    main()
