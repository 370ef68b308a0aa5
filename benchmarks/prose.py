"""Ordinary prose, to be read by eye: a page in each of six languages, tagged paragraph by paragraph.

    python benchmarks/prose.py --workspace W

The pages (`benchmarks/prose/`, written for this) are one story of 15 sentences with 14 mentions, in six
languages. Each paragraph is one text of several sentences, as people send them, routed without being told
its language. Every mention that was missed, and every one that is not there, is printed with its score.
Beside all entities, those of at least `min_score` are counted. Type names are PAN-X's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from measuring import flags, parsed, result, write

from retrieveall.opening import OpenOptions, open_tagger
from retrieveall.tagger import Tagger, TextInput
from retrieveall.workspace import Workspace
from tests.annotated import annotated

_PAGES = Path(__file__).parent / "prose"
_MIN_SCORES = (0.0, 0.5, 0.7)
_KINDS = ("right", "wrong", "missed")
_Mention = tuple[int, int, str]


def main() -> None:
    """Tags the pages and writes `prose`."""
    parser = flags(__doc__, rounds=1)
    parser.add_argument("--workspace", default=os.environ.get("RETRIEVEALL_WORKSPACE", "workspace"))
    arguments = parsed(parser)
    pages = sorted(_PAGES.glob("*.txt"))
    with open_tagger(Workspace.open(arguments.workspace), OpenOptions()) as opened:
        read = {page.stem: read_page(opened.tagger, page) for page in pages}
    totals = {
        str(least): f1(*(sum(one[str(least)][kind] for one in read.values()) for kind in _KINDS))
        for least in _MIN_SCORES
    }
    record = result(
        "prose",
        "mentions of a page of prose in six languages: F1",
        [totals["0.0"]],
        goal=None,
        unit="F1",
        sides={code: [f1(*one["0.0"].values())] for code, one in read.items()},
        sides_unit="F1",
        by_min_score=totals,
        pages=read,
        setup={"release": "PAN-X"},
    )
    write(record, arguments.results, draw(read))


def read_page(tagger: Tagger, page: Path) -> dict[str, Any]:
    """Tags one page and prints what is not as it should be."""
    gold = [annotated(line) for line in page.read_text(encoding="utf-8").splitlines()]
    tagged = tagger.tag([TextInput(text=one.text) for one in gold])
    counts = {str(least): dict.fromkeys(_KINDS, 0) for least in _MIN_SCORES}
    sentences = [sentence for found in tagged for sentence in found.sentences]
    routed = sum(sentence.language == page.stem for sentence in sentences)
    print(f"\n{page.stem}: {routed} of {len(sentences)} sentences routed right")
    for one, found in zip(gold, tagged, strict=True):
        due: set[_Mention] = {(m.start_char, m.end_char, m.label) for m in one.entities}
        scores = {(m.start_char, m.end_char, m.label): m.score for m in found.entities}
        for least in _MIN_SCORES:
            got = {mention for mention, score in scores.items() if score >= least}
            for kind, some in zip(_KINDS, (due & got, got - due, due - got), strict=True):
                counts[str(least)][kind] += len(some)
        for mention in sorted(due ^ scores.keys()):
            start, end, label = mention
            said = f"wrong {scores[mention]:.2f}" if mention in scores else "missed"
            print(f"  {said}: {one.text[start:end]!r} {label}")
    return {**counts, "sentences": len(sentences), "routed": routed}


def f1(right: int, wrong: int, missed: int) -> float:
    """Returns the F1 of counts."""
    return 2 * right / max(1, 2 * right + wrong + missed)


def draw(read: dict[str, dict[str, Any]]) -> Figure:
    """Draws how many mentions of each page are right, wrong and missed."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for shift, (kind, colour) in enumerate(
        (("right", "#5b9e6f"), ("wrong", "#c26e6e"), ("missed", "#bbbbbb"))
    ):
        places = [place + 0.27 * (shift - 1) for place in range(len(read))]
        axes.bar(places, [one["0.0"][kind] for one in read.values()], width=0.26, label=kind, color=colour)
    axes.set_xticks(range(len(read)), list(read))
    axes.set_ylabel("mentions")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
