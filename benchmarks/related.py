"""A tiny training set among larger ones: do examples from other languages' indexes help?

    python benchmarks/related.py --workspace W --corpus panx --own 100 --others 1000

Each language in turn has few training sentences, the others many. Its adapter learns from its few, with
prompts that show examples of its own index (`own`), or of its own and the others' (`related`: the nearest of
all, a surface that its own index has keeps that one's labels), in training as in the test. Both are tested
without a prior and with one that learns as the product's do, from all languages' sentences, then from its
own. The language is known; the workspace is only read.

Writes the F1 of each and paired tests to related-CORPUS-OWN-OTHERS.json, with a picture.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from measuring import RESULTS, parsed, workspace_flags

from retrieveall.cli.session import claim_base
from retrieveall.corpus.limits import limited
from retrieveall.embedding import load_embedder, spec_for
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.evaluation.comparison import compare_runs
from retrieveall.evaluation.language import LanguageReport, evaluate
from retrieveall.evaluation.plots import plot_f1, save_png
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.generation import GenerationTask, Generator
from retrieveall.models.base import base_folder
from retrieveall.prior import SpanPrior, learn_prior
from retrieveall.retrieval.in_memory import index_in_memory
from retrieveall.retrieval.layers import Layer, layered_examples
from retrieveall.retrieval.neighbourhood import DEFAULT_LAMBDA
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.run import AdapterTask, Device, SplitInput, Trained, train_pack
from retrieveall.types import Entity, Examples, Sentence, Split
from retrieveall.workspace import Workspace

_SPARE_EXAMPLES = 2  # as in training, where examples are dropped at random


def main() -> None:
    """Trains, tests and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workspace_flags(parser)
    parser.add_argument("--own", type=int, default=100, help="Training sentences of the tiny language.")
    parser.add_argument("--others", type=int, default=1000, help="Of each other language.")
    parser.add_argument("--limit", type=int, default=400, help="Test sentences per language.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--prior-weight", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for JSON and the picture.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    languages = sorted(key.language for key in workspace.corpora.resolve(arguments.corpus, None))
    scored: dict[str, list[list[LanguageReport]]] = {}
    for code in languages:
        tiny = TinyLanguage(workspace, arguments, code, [other for other in languages if other != code])
        for seed in range(arguments.seeds):
            for name, found in tiny.answers(seed).items():
                runs = scored.setdefault(name, [[] for _ in range(arguments.seeds)])
                runs[seed].append(evaluate(tiny.gold, found, seen=tiny.seen))
                print(f"{code} seed {seed} {name}: F1 {runs[seed][-1].strict.f1:.3f}", flush=True)
    reports = {
        name: [EvalReport.of(some, name=name, settings={"seed": seed}) for seed, some in enumerate(runs)]
        for name, runs in scored.items()
    }
    tests = [
        asdict(compare_runs(reports[f"related{prior}"], reports[f"own{prior}"], view=view))
        for prior in ("", " with the prior")
        for view in ("strict", "unseen")
    ]
    body = {
        "reports": {name: [one.to_dict() for one in some] for name, some in reports.items()},
        "paired": tests,
    }
    name = f"related-{arguments.corpus}-{arguments.own}-{arguments.others}"
    (arguments.results / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    save_png(plot_f1([some[0] for some in reports.values()]), arguments.results / f"{name}.png")


class TinyLanguage:
    """One language with few training sentences, among others with more.

    Attributes:
        gold: Its test sentences.
        seen: Knows which of them stand in training.
    """

    def __init__(
        self, workspace: Workspace, arguments: argparse.Namespace, code: str, others: Sequence[str]
    ) -> None:
        self._arguments = arguments
        self._base_model, _ = claim_base(workspace, None)
        self._store = workspace.corpora
        self._train = self._read(code, "train", arguments.own)
        self._dev = self._read(code, "dev", arguments.limit)
        self.gold = self._read(code, "test", arguments.limit)[0]
        self.seen = SeenInTraining.of(self._train[0])
        embedder = load_embedder(spec_for("ngram", base_model=self._base_model))
        foreign = [one for other in others for one in self._read(other, "train", arguments.others)[0]]
        layers = [Layer(index=index_in_memory(some, embedder)) for some in (self._train[0], foreign)]
        self._layers = {"own": layers[:1], "related": layers}
        weights = learn_prior(self._train[0], start=learn_prior([*self._train[0], *foreign]))
        self._prior = SpanPrior(weights, weight=arguments.prior_weight)

    def answers(self, seed: int) -> dict[str, list[tuple[Entity, ...]]]:
        """Trains an adapter with each index and returns what they find in the test sentences, by name."""
        splits = {
            name: [self._split(layers, *self._train, training=True), self._split(layers, *self._dev)]
            for name, layers in self._layers.items()
        }
        labels = tuple(sorted({entity.label for one in self._train[0] for entity in one.entities}))
        tasks = {
            name: AdapterTask(train=train, dev=dev, labels=labels, config=AdapterTrainingConfig(seed=seed))
            for name, (train, dev) in splits.items()
        }
        device = Device(threads=self._arguments.threads)
        found = {}
        with tempfile.TemporaryDirectory() as scratch:
            made = train_pack(self._base_model, tasks, Path(scratch), device=device, on_step=lambda *_: None)
            settings = EngineConfig(base_model=base_folder(self._base_model), threads=device.threads)
            engine = TransformersEngine(settings, lambda name: Path(scratch) / name)
            generator = Generator(engine, engine.codec)
            for name, one in made.items():
                if not isinstance(one, Trained):
                    raise one
                plain = self._examples(self._layers[name], [sentence.text for sentence in self.gold])
                said = self._prior.score([sentence.text for sentence in self.gold])
                spoken = [replace(one, prior=prior) for one, prior in zip(plain, said, strict=True)]
                for suffix, shown in (("", plain), (" with the prior", spoken)):
                    tasks_shown = [
                        GenerationTask(
                            text=sentence.text, labels=labels, adapters=((name, 1.0),), examples=examples
                        )
                        for sentence, examples in zip(self.gold, shown, strict=True)
                    ]
                    found[name + suffix] = [answer.entities for answer in generator.generate(tasks_shown)]
            engine.close()
        return found

    def _read(self, code: str, split: Split, limit: int) -> tuple[list[Sentence], list[Sentence]]:
        forms = [
            self._store.load(self._arguments.corpus, code, split, form)
            for form in ("tokenised", "detokenised")
        ]
        places = limited(len(forms[0]), limit)
        return [forms[0][place] for place in places], [forms[1][place] for place in places]

    def _split(
        self,
        layers: Sequence[Layer],
        sentences: list[Sentence],
        detokenised: list[Sentence],
        *,
        training: bool = False,
    ) -> SplitInput:
        examples = self._examples(layers, [one.text for one in sentences], training=training)
        return SplitInput(sentences=sentences, detokenised=detokenised, examples=examples)

    def _examples(
        self, layers: Sequence[Layer], texts: Sequence[str], *, training: bool = False
    ) -> list[Examples]:
        """Finds what a prompt shows; in training spare ones, too, and never the sentence itself."""
        spare = _SPARE_EXAMPLES if training else 0
        recipe = AdapterTrainingConfig().render
        return layered_examples(
            layers,
            texts,
            n=recipe.entity_examples + spare,
            m=recipe.context_examples + spare,
            threshold_lambda=DEFAULT_LAMBDA,
            exclude=texts if training else None,
        )


if __name__ == "__main__":
    main()
