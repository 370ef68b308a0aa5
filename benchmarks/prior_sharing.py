"""What priors gain by sharing: F1 of the prior alone, by its likeliest tags, on dev sentences.

    python benchmarks/prior_sharing.py --workspace W --corpus panx-1000

Of each language of an indexed corpus: `alone` learned from its own sentences, `together` is one CRF of all
languages' sentences, `shared` goes on from that one with the language's own, as the product does. No model
is asked. Writes prior-sharing-CORPUS.json with a picture.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from matplotlib.figure import Figure
from measuring import flags, parsed, result, workspace_flags, write

from retrieveall.corpus.limits import limited
from retrieveall.engine.chain import likeliest_mentions
from retrieveall.evaluation.bootstrap import f1_of_counts
from retrieveall.evaluation.strict import count_strict
from retrieveall.prior import PriorWeights, SpanPrior, learn_prior
from retrieveall.text.units import split_units
from retrieveall.types import GoldEntity, Sentence
from retrieveall.workspace import Workspace

_COLOURS = {"alone": "#bbbbbb", "together": "#7aa6c2", "shared": "#5b9e6f"}


def main() -> None:
    """Learns, scores and writes the results."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--limit", type=int, default=500, help="Dev sentences per language.")
    arguments = parsed(parser)
    store = Workspace.open(arguments.workspace).corpora
    languages = sorted(key.language for key in store.resolve(arguments.corpus, None))
    train = {code: store.load(arguments.corpus, code, "train") for code in languages}
    began = time.perf_counter()
    of_all = learn_prior([one for some in train.values() for one in some])
    seconds = {"together": time.perf_counter() - began, "alone": 0.0, "shared": 0.0}
    f1: dict[str, dict[str, float]] = {name: {} for name in _COLOURS}
    for code, own in train.items():
        dev = store.load(arguments.corpus, code, "dev")
        gold = [dev[place] for place in limited(len(dev), arguments.limit)]
        f1["together"][code] = scored(of_all, gold)
        for name, start in (("alone", None), ("shared", of_all)):
            began = time.perf_counter()
            learned = learn_prior(own, start=start)
            seconds[name] += time.perf_counter() - began
            f1[name][code] = scored(learned, gold)
        print(f"{code}: " + ", ".join(f"{name} {f1[name][code]:.3f}" for name in f1), flush=True)
    means = {name: sum(some.values()) / len(some) for name, some in f1.items()}
    record = result(
        f"prior-sharing-{arguments.corpus}",
        "F1 of priors that share, less that of priors that do not, mean over the languages",
        [means["shared"] - means["alone"]],
        goal=None,
        unit="F1",
        sides={name: list(some.values()) for name, some in f1.items()},
        sides_unit="F1",
        by_language=f1,
        means=means,
        seconds=seconds,
        setup={"corpus": arguments.corpus, "sentences": {code: len(own) for code, own in train.items()}},
    )
    write(record, arguments.results, draw(f1))


def scored(weights: PriorWeights, gold: Sequence[Sentence]) -> float:
    """Returns the strict F1 of a prior's likeliest tags."""
    found = []
    for one, said in zip(gold, SpanPrior(weights, weight=1.0).score([s.text for s in gold]), strict=True):
        units = split_units(one.text)
        found.append(
            [
                GoldEntity(start_char=units[first].start_char, end_char=units[end - 1].end_char, label=label)
                for first, end, label in likeliest_mentions(said)
            ]
        )
    return float(f1_of_counts(count_strict(gold, found).per_sentence.sum(axis=0)))


def draw(f1: dict[str, dict[str, float]]) -> Figure:
    """Draws the F1 of each language."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for shift, (name, colour) in enumerate(_COLOURS.items()):
        values = list(f1[name].values())
        places = [place + 0.27 * (shift - 1) for place in range(len(values))]
        axes.bar(places, values, width=0.26, label=name, color=colour)
    axes.set_xticks(range(len(f1["alone"])), list(f1["alone"]))
    axes.set_ylabel("strict F1 of the prior alone")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
