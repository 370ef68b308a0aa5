"""Fifty tagged sentences of a new kind of text: teach them, or fine-tune on them?

    python benchmarks/domain.py --workspace W --corpus panx --new-corpus uner --language en

The adapter learned from one corpus; the other has the same labels and another kind of text. `before`: the
adapter as it is. `taught`: fifty of the new corpus's training sentences are taught, which takes no training
and leaves adapter and index as they are. `fine-tuned`: the adapter goes on with the same fifty, at half of
its peak rate for sixty steps; the pass with the best loss on 100 new dev sentences is kept. `both`: these are
taught, too. Each is tested on new test sentences, and on old ones for what is forgotten, with the adapter's
prior and the language known. One draw of fifty sentences; the workspace stays as it is.

Writes the F1 of each and paired tests to domain-CORPUS-NEW-LANGUAGE.json, with a picture.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from measuring import RESULTS, parsed, workspace_flags
from taught import NAMESPACE, is_taken, records

from retrieveall.corpus.limits import limited
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.evaluation.comparison import compare
from retrieveall.evaluation.language import evaluate
from retrieveall.evaluation.plots import plot_f1, save_png
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.generation import Generator
from retrieveall.models.base import base_folder
from retrieveall.opening import (
    OpenOptions,
    OpenRelease,
    OracleRouter,
    open_retriever,
    read_release,
)
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.storage import Store
from retrieveall.tagger import Tagger, TextInput
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.layers import SeenTaught, TaughtLayers
from retrieveall.taught.log import TaughtLog
from retrieveall.taught.view import TaughtView
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.run import AdapterTask, Device, SplitInput, Trained, train_pack
from retrieveall.types import Entity, Sentence, Split
from retrieveall.workspace import Workspace

_DEV_SENTENCES = 100
_CONTINUED_RATE = 0.5


def main() -> None:
    """Teaches, fine-tunes, tests and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    workspace_flags(parser)
    parser.add_argument("--new-corpus", required=True)
    parser.add_argument("--language", required=True)
    parser.add_argument("--adapter", help="Digest. [default: that of the current release]")
    parser.add_argument("--examples", type=int, default=50, help="New sentences to learn from.")
    parser.add_argument("--limit", type=int, default=500, help="Test sentences of each corpus.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder for JSON and the picture.")
    arguments = parsed(parser)
    workspace, code = Workspace.open(arguments.workspace), arguments.language
    chosen = {code: arguments.adapter} if arguments.adapter else {}
    opened = read_release(workspace, OpenOptions(languages=(code,), adapters=chosen))
    plain = open_retriever(workspace, opened)
    lessons = Lessons(workspace, arguments.new_corpus, code, arguments.examples, opened)
    device = Device(threads=arguments.threads)
    reports: dict[str, list[EvalReport]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        seeing = taught(plain, lessons.train.sentences, opened, Path(scratch) / "taught")
        tuned = fine_tuned(workspace, opened, plain, lessons, Path(scratch) / "tuned", device)
        known = workspace.pool.path(opened.adapters[code].digest)
        for name, retriever, adapter in (
            ("before", plain, known),
            ("taught", seeing, known),
            ("fine-tuned", plain, tuned),
            ("both", seeing, tuned),
        ):
            settings = EngineConfig(base_model=base_folder(opened.base_model), threads=arguments.threads)
            engine = TransformersEngine(settings, {opened.adapters[code].digest: adapter}.__getitem__)
            tagger = Tagger(
                release=0,
                adapters=opened.adapters,
                router=OracleRouter(),
                retriever=retriever,
                generator=Generator(engine, engine.codec),
            )
            for corpus in (arguments.new_corpus, arguments.corpus):
                report = tested(workspace, tagger, corpus, code, arguments.limit, name)
                reports.setdefault(corpus, []).append(report)
                print(f"{corpus} {name}: F1 {report.macro_f1:.3f}", flush=True)
            engine.close()
    body = {
        corpus: {
            "reports": {one.name: one.to_dict() for one in some},
            "paired": [
                asdict(compare(other, one)) for at, one in enumerate(some) for other in some[at + 1 :]
            ],
        }
        for corpus, some in reports.items()
    }
    name = f"domain-{arguments.corpus}-{arguments.new_corpus}-{code}"
    (arguments.results / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    save_png(plot_f1(reports[arguments.new_corpus]), arguments.results / f"{name}.png")


class Lessons:
    """The sentences of the new corpus that are taught or trained on, and those that say when to stop.

    Attributes:
        train: So many training sentences that can be taught.
        dev: Dev sentences.
    """

    def __init__(self, workspace: Workspace, corpus: str, code: str, count: int, opened: OpenRelease) -> None:
        self._store, self._corpus, self._code = workspace.corpora, corpus, code
        sentences = self._store.load(corpus, code, "train")
        fit = [place for place, one in enumerate(sentences) if is_taken(one, opened)]
        self.train = self._split("train", [fit[place] for place in limited(len(fit), count)])
        self.dev = self._split("dev", range(_DEV_SENTENCES))

    def _split(self, split: Split, places: Sequence[int]) -> SplitInput:
        forms = [
            self._store.load(self._corpus, self._code, split, form) for form in ("tokenised", "detokenised")
        ]
        chosen = [[rows[place] for place in places if place < len(rows)] for rows in forms]
        return SplitInput(sentences=chosen[0], detokenised=chosen[1], examples=())


def taught(
    retriever: ReleaseRetriever, lessons: Sequence[Sentence], opened: OpenRelease, folder: Path
) -> ReleaseRetriever:
    """Returns the retriever that also finds the lessons."""
    book = TaughtBook(TaughtLog(store=Store.open(folder, create=True)))
    book.teach(NAMESPACE, records(lessons, opened), created_at="2026-01-01T00:00:00+00:00")
    return retriever.seeing(
        SeenTaught(layers=TaughtLayers(book), view=TaughtView(namespace=NAMESPACE, own_seq=1))
    )


def fine_tuned(
    workspace: Workspace,
    opened: OpenRelease,
    retriever: ReleaseRetriever,
    lessons: Lessons,
    folder: Path,
    device: Device,
) -> Path:
    """Continues the adapter on the lessons, whose prompts show what the index has; returns its folder."""
    ((code, adapter),) = opened.adapters.items()
    recipe = opened.cards[code].training
    config = AdapterTrainingConfig(
        rank=recipe["rank"],
        alpha=recipe["alpha"],
        learning_rate=_CONTINUED_RATE * recipe["learning_rate"],
    )
    splits = [
        SplitInput(
            sentences=split.sentences,
            detokenised=split.detokenised,
            examples=retriever.retrieve_batch(code, [one.text for one in split.sentences]),
        )
        for split in (lessons.train, lessons.dev)
    ]
    task = AdapterTask(
        train=splits[0],
        dev=splits[1],
        labels=adapter.labels,
        config=config,
        initial=workspace.pool.path(adapter.digest),
    )
    trained = train_pack(opened.base_model, {code: task}, folder, device=device, on_step=lambda *_: None)
    made = trained[code]
    if not isinstance(made, Trained):
        raise made
    return made.folder


def tested(workspace: Workspace, tagger: Tagger, corpus: str, code: str, limit: int, name: str) -> EvalReport:
    """Tags test sentences and scores them."""
    test = workspace.corpora.load(corpus, code, "test")
    gold = [test[place] for place in limited(len(test), limit)]
    answers = tagger.tag([TextInput(text=one.text, language=code) for one in gold], split=False)
    found: list[tuple[Entity, ...]] = [answer.entities for answer in answers]
    seen = SeenInTraining.of(workspace.corpora.load(corpus, code, "train"))
    return EvalReport.of([evaluate(gold, found, seen=seen)], name=name, settings={"corpus": corpus})


if __name__ == "__main__":
    main()
