"""Should equal names of one document agree? Rules on top of the tagger, measured before one is built in.

    python benchmarks/consistency.py --workspace W --corpus masakhaner2 --languages ha,ig,rw,yo

The first test sentences of a corpus of news, in its order, some in a row as one document, tagged with their
own adapter, each for itself. `one label`: all mentions of one surface in a document take the label that has
the largest sum of scores there. `repeats`: what repeats a mention is one, too (`retrieveall.repeats`), as the
tagger does with texts of several sentences. `both` does one after the other.

Writes the F1 of each and paired tests to consistency-CORPUS.json, with a picture.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from measuring import RESULTS, parsed, workspace_flags

from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.language import LanguageReport, evaluate
from retrieveall.evaluation.plots import plot_f1, save_png
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.repeats import with_repeats
from retrieveall.tagger import TextInput
from retrieveall.types import Entity, Sentence
from retrieveall.workspace import Workspace

Found = list[list[Entity]]  # the mentions of each sentence
Rule = Callable[[Sequence[Sentence], Found], Found]


def main() -> None:
    """Tags, applies the rules and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workspace_flags(parser)
    parser.add_argument("--languages", required=True, help="Comma-separated.")
    parser.add_argument("--limit", type=int, default=500, help="Test sentences per language, from the first.")
    parser.add_argument("--together", type=int, default=10, help="Sentences of a document.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for JSON and the picture.")
    arguments = parsed(parser)
    workspace, languages = Workspace.open(arguments.workspace), tuple(arguments.languages.split(","))
    scored: dict[str, list[LanguageReport]] = {}
    options = OpenOptions(languages=languages, routing="oracle", threads=arguments.threads)
    with open_tagger(workspace, options) as opened:
        for code in languages:
            gold = list(workspace.corpora.load(arguments.corpus, code, "test"))[: arguments.limit]
            seen = SeenInTraining.of(workspace.corpora.load(arguments.corpus, code, "train"))
            answers = opened.tagger.tag(
                [TextInput(text=one.text, language=code) for one in gold], split=False
            )
            tagged = [list(answer.entities) for answer in answers]
            for name, rule in _RULES.items():
                found = [
                    one
                    for start in range(0, len(gold), arguments.together)
                    for one in rule(
                        gold[start : start + arguments.together], tagged[start : start + arguments.together]
                    )
                ]
                scored.setdefault(name, []).append(evaluate(gold, found, seen=seen))
                print(f"{code} {name}: F1 {scored[name][-1].strict.f1:.3f}", flush=True)
    reports = [EvalReport.of(some, name=name, settings={}) for name, some in scored.items()]
    tests = [
        asdict(compare(other, reports[0], view=view))
        for other in reports[1:]
        for view in ("strict", "unseen")
    ]
    body = {"reports": {one.name: one.to_dict() for one in reports}, "paired": tests}
    name = f"consistency-{arguments.corpus}"
    (arguments.results / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    save_png(plot_f1(reports), arguments.results / f"{name}.png")


def as_tagged(sentences: Sequence[Sentence], found: Found) -> Found:
    """Changes nothing."""
    return found


def one_label(sentences: Sequence[Sentence], found: Found) -> Found:
    """Gives the mentions of one surface the label with the largest sum of scores."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for entity in (entity for some in found for entity in some):
        sums[entity.text][entity.label] += entity.score  # type: ignore[assignment]  # a float
    best = {surface: labels.most_common(1)[0][0] for surface, labels in sums.items()}
    return [[replace(entity, label=best[entity.text]) for entity in some] for some in found]


def repeats(sentences: Sequence[Sentence], found: Found) -> Found:
    """Adds what repeats a mention, as the tagger does."""
    return [list(some) for some in with_repeats([one.text for one in sentences], found)]


def both(sentences: Sequence[Sentence], found: Found) -> Found:
    """Does both."""
    return repeats(sentences, one_label(sentences, found))


_RULES: dict[str, Rule] = {"as tagged": as_tagged, "one label": one_label, "repeats": repeats, "both": both}


if __name__ == "__main__":
    main()
