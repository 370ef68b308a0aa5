"""Other taggers on the same data, by the same strict scorer: F1 with intervals, and sentences per second.

    pip install -e ".[rivals]"
    python benchmarks/ner_rivals.py --corpus sample --train-limit 200 --test-limit 100

- crf: a linear-chain CRF with the usual features, one per language (rival_crf.py).
- spacy: spaCy's `ner` from scratch, one per language (rival_spacy.py).
- head: the workspace's base with a token-classification head, full fine-tuning, one per language
  (rival_head.py). The base itself may have seen other text; the others have not.
- polyglot: one LoRA for all languages, prompts without examples, through the product's own training and
  evaluation (it starts Ray). Training tokens stand in its settings.

Every rival sees the training sentences that `retrieveall train --train-limit` draws and tags those that
`retrieveall eval --limit` draws, in the corpus's own tokens and with the language known. Reports go to
reports/rival-NAME/ of the workspace, as `retrieveall eval` writes them; scores and a picture to --results.
Timings are of one process, training not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bio import NerRival
from measuring import RESULTS, parsed, workspace_flags

from retrieveall.cli.evaluate import save_reports
from retrieveall.cli.process import ray_running
from retrieveall.cli.session import claim_base
from retrieveall.corpus.limits import limited
from retrieveall.corpus.sample import citation_forms
from retrieveall.evaluation.language import LanguageReport, evaluate
from retrieveall.evaluation.plots import plot_f1, save_png
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.experiments.arms import planned_arms
from retrieveall.experiments.plan import Plan
from retrieveall.types import Sentence, Split
from retrieveall.workspace import Workspace

_NAMES = ("crf", "spacy", "head", "polyglot")


def main() -> None:
    """Trains, tags and writes the reports of every rival that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workspace_flags(parser)
    parser.add_argument("--languages", default="", help="Comma-separated. [default: all of the corpus]")
    parser.add_argument(
        "--rivals", default=",".join(_NAMES), help=f"Comma-separated, of {', '.join(_NAMES)}."
    )
    parser.add_argument("--train-limit", type=int, help="Training sentences per language. [default: all]")
    parser.add_argument("--dev-limit", type=int, default=300)
    parser.add_argument("--test-limit", type=int, help="Test sentences per language. [default: all]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--epochs", type=int, help="Most passes of spacy, head and polyglot. [default: theirs]"
    )
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for JSON and the picture.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    reports = []
    for rival in arguments.rivals.split(","):
        report = report_of(rival, workspace, arguments)
        folder = save_reports(workspace, f"rival-{rival}", [report])
        speed = f"{report.sentences_per_s:.1f} sentences/s"
        print(f"{rival}: macro F1 {report.macro_f1:.3f}, {speed}, {folder}")
        reports.append(report)
    name = f"ner-rivals-{arguments.corpus}-{arguments.train_limit or 'all'}"
    bodies = {report.name: report.to_dict() for report in reports}
    (arguments.results / f"{name}.json").write_text(json.dumps(bodies, indent=1, ensure_ascii=False) + "\n")
    save_png(plot_f1(reports), arguments.results / f"{name}.png")


def report_of(name: str, workspace: Workspace, arguments: argparse.Namespace) -> EvalReport:
    """Trains and tests one rival on all languages."""
    if name == "polyglot":
        return polyglot(workspace, arguments)
    with tempfile.TemporaryDirectory() as scratch:
        make = maker(name, workspace, arguments, Path(scratch))
        scored = [of_language(make(), workspace, arguments, code) for code in languages(workspace, arguments)]
    manifests = [workspace.corpora.manifest(arguments.corpus, one.language) for one, _, _ in scored]
    tag_s = sum(seconds for _, _, seconds in scored)
    return EvalReport.of(
        [report for report, _, _ in scored],
        name=name,
        sentences_per_s=sum(report.strict.sentences for report, _, _ in scored) / tag_s,
        synthetic=any(manifest.synthetic for manifest in manifests),
        settings={
            "train_limit": arguments.train_limit,
            "seed": arguments.seed,
            "train_s": {report.language: round(train_s, 1) for report, train_s, _ in scored},
        },
    )


def languages(workspace: Workspace, arguments: argparse.Namespace) -> list[str]:
    """Returns the languages, sorted."""
    chosen = tuple(filter(None, arguments.languages.split(","))) or None
    return sorted(key.language for key in workspace.corpora.resolve(arguments.corpus, chosen))


def maker(
    name: str, workspace: Workspace, arguments: argparse.Namespace, folder: Path
) -> Callable[[], NerRival]:
    """Returns what makes an untrained rival. Each one's packages are imported only where it is asked for."""
    given: dict[str, Any] = {"seed": arguments.seed}
    if arguments.epochs is not None:
        given["epochs"] = arguments.epochs
    if name == "crf":
        from rival_crf import CrfRival

        return lambda: CrfRival(folder)
    if name == "spacy":
        from rival_spacy import SpacyRival

        return lambda: SpacyRival(**given)
    if name == "head":
        from rival_head import HeadRival

        base_model, _ = claim_base(workspace, None)
        return lambda: HeadRival(base_model, **given)
    raise SystemExit(f"There is no rival {name!r}; known are {', '.join(_NAMES)}.")


def of_language(
    rival: NerRival, workspace: Workspace, arguments: argparse.Namespace, code: str
) -> tuple[LanguageReport, float, float]:
    """Returns scores, seconds of training and seconds of tagging."""

    def read(split: Split, limit: int | None) -> list[Sentence]:
        rows: Sequence[Sentence] = workspace.corpora.load(arguments.corpus, code, split)
        return [rows[place] for place in limited(len(rows), limit)]

    test = read("test", arguments.test_limit)
    started = time.perf_counter()
    rival.train(read("train", arguments.train_limit), read("dev", arguments.dev_limit))
    trained = time.perf_counter()
    found = rival.tag(test)
    tagged = time.perf_counter()
    synthetic = workspace.corpora.manifest(arguments.corpus, code).synthetic
    citation = citation_forms(code) if synthetic else None
    seen = SeenInTraining.of(read("train", None), citation=citation)
    return evaluate(test, found, seen=seen), trained - started, tagged - trained


def polyglot(workspace: Workspace, arguments: argparse.Namespace) -> EvalReport:
    """Runs a plan of one arm."""
    from train_jobs.packs import Resources
    from train_jobs.run_experiment import run_experiment

    recipe = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    plan = Plan(
        name="rival-polyglot",
        corpus=arguments.corpus,
        languages=tuple(languages(workspace, arguments)),
        seeds=(arguments.seed,),
        test_limit=arguments.test_limit,
        dev_limit=arguments.dev_limit,
        defaults={"train_limit": arguments.train_limit, "recipe": recipe},
        arms={"polyglot": {"strategy": "polyglot", "examples": "neither"}},
    )
    base = claim_base(workspace, None)
    with ray_running():
        outcome = run_experiment(workspace, plan, base, Resources(cpus_per_worker=arguments.threads))
    if outcome.failed:
        raise SystemExit(f"The polyglot adapter failed: {outcome.failed[0].error}")
    (arm,) = planned_arms(workspace, plan, base)
    return arm.kept(workspace)[1]


if __name__ == "__main__":
    main()
