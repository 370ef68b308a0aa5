"""What teaching is worth: 50 sentences that the adapter gets wrong are taught, then others are tagged.

    python benchmarks/taught.py --workspace W --corpus panx --language es

Test sentences with a mention that the adapter misses or mislabels, and whose name (surface and label) is a
mention of another test sentence too, are taught as their gold says. Then, with the right adapter before and
after: of the later mentions of these names, in sentences that were not taught, how many that were wrong are
right now, and how many that were right are wrong now? Of sentences that hold none of the names, how many are
answered otherwise than before? The examples go to a temporary folder, the workspace stays as it is.

Not covered: routing, which taught examples do not touch; names that were taught in a sense other than the
later one's; many namespaces.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from measuring import flags, parsed, result, workspace_flags, write

from retrieveall.corpus.limits import limited
from retrieveall.errors import InputError
from retrieveall.generation import Generator
from retrieveall.opening import (
    OpenOptions,
    OpenRelease,
    OracleRouter,
    open_engine,
    open_retriever,
    read_release,
)
from retrieveall.release_retriever import ReleaseRetriever
from retrieveall.storage import Store
from retrieveall.tagger import Tagger, TextInput
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.checking import check_examples
from retrieveall.taught.layers import SeenTaught, TaughtLayers
from retrieveall.taught.log import TaughtLog
from retrieveall.taught.view import TaughtView
from retrieveall.types import Sentence
from retrieveall.workspace import Workspace

NAMESPACE = "measured"
CHUNK = 64

Name = tuple[str, str]  # surface, label
Answer = frozenset[tuple[int, int, str]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is taught and what is looked at afterwards.

    Attributes:
        taught: Sentences that the adapter gets wrong.
        names: The mentions in them that it misses or mislabels.
        known: Those of them that the index's training sentences have, with the same label.
        later: Other sentences with a mention of one of the names.
        others: Sentences that hold none of the names.
    """

    taught: list[Sentence]
    names: set[Name]
    known: set[Name]
    later: list[Sentence]
    others: list[Sentence]


class Answers:
    """The tagger of one release with and without taught examples, around one engine."""

    def __init__(self, workspace: Workspace, language: str, threads: int) -> None:
        self._language = language
        self.opened = read_release(workspace, OpenOptions(languages=(language,)))
        self.retriever = open_retriever(workspace, self.opened)
        self._engine = open_engine(workspace, self.opened, workspace.settings(), threads=threads)
        budget = workspace.settings().prompt.budget_tokens
        self._generator = Generator(self._engine, self._engine.codec, budget_tokens=budget)

    def of(self, sentences: Sequence[Sentence], retriever: ReleaseRetriever | None = None) -> list[Answer]:
        """Tags sentences with their own adapter."""
        tagger = Tagger(
            release=self.opened.release.number,
            adapters=self.opened.adapters,
            router=OracleRouter(),
            retriever=retriever or self.retriever,
            generator=self._generator,
        )
        answers = []
        for start in range(0, len(sentences), CHUNK):
            inputs = [
                TextInput(text=s.text, language=self._language) for s in sentences[start : start + CHUNK]
            ]
            answers += [
                frozenset((e.start_char, e.end_char, e.label) for e in tagged.entities)
                for tagged in tagger.tag(inputs, split=False)
            ]
        return answers

    def close(self) -> None:
        """Stops the engine."""
        self._engine.close()


def main() -> None:
    """Measures and writes ``taught-<corpus>-<language>``."""
    parser = flags(__doc__, rounds=1)
    workspace_flags(parser)
    parser.add_argument("--language", required=True)
    parser.add_argument("--taught", type=int, default=50, help="Sentences to teach.")
    parser.add_argument("--candidates", type=int, default=600, help="Sentences searched for wrong answers.")
    parser.add_argument("--per-name", type=int, default=5, help="Most later sentences of each name.")
    parser.add_argument("--others", type=int, default=500, help="Sentences without any of the names.")
    arguments = parsed(parser)
    workspace = Workspace.open(arguments.workspace)
    pool = workspace.corpora.load(arguments.corpus, arguments.language, "test")
    answers = Answers(workspace, arguments.language, arguments.threads)
    try:
        train = workspace.corpora.load(arguments.corpus, arguments.language, "train")
        known = {name for sentence in train for name in names_of(sentence)}
        lesson = chosen(pool, known, answers, arguments)
        measured = measure(lesson, answers)
    finally:
        answers.close()
    later = measured["later"]
    record = result(
        f"taught-{arguments.language}",
        f"share of later mentions corrected by {len(lesson.taught)} taught sentences",
        [later["all"]["corrected_share"]],
        goal=None,
        unit="share",
        sides={name: [share] for name, share in shares(measured).items()},
        sides_unit="share",
        **measured,
        setup={
            "corpus": arguments.corpus,
            "language": arguments.language,
            "release": answers.opened.release.number,
            "adapter": answers.opened.adapters[arguments.language].digest,
            "candidates": arguments.candidates,
        },
    )
    write(
        record,
        arguments.results,
        draw(measured, len(lesson.taught)),
        name=f"taught-{arguments.corpus}-{arguments.language}",
    )


def chosen(pool: Sequence[Sentence], known: set[Name], answers: Answers, arguments: Any) -> Lesson:
    """Finds sentences that are answered wrongly and the later ones that hold their names."""
    distinct = list({sentence.text: sentence for sentence in pool}.values())
    holding: dict[Name, set[int]] = defaultdict(set)
    for number, sentence in enumerate(distinct):
        for name in names_of(sentence):
            holding[name].add(number)
    again = [i for i, s in enumerate(distinct) if any(len(holding[name]) > 1 for name in names_of(s))]
    candidates = [again[i] for i in limited(len(again), arguments.candidates)]
    taught: list[int] = []
    names: set[Name] = set()
    for number, answer in zip(candidates, answers.of([distinct[i] for i in candidates]), strict=True):
        if len(taught) == arguments.taught:
            break
        wrong = {name for name in wrong_names(distinct[number], answer) if len(holding[name]) > 1}
        if wrong - names and is_taken(distinct[number], answers.opened):
            taught.append(number)
            names |= wrong
    later: set[int] = set()
    for name in names:
        free_of = sorted(holding[name] - set(taught))
        later |= {free_of[i] for i in limited(len(free_of), arguments.per_name)}
    surfaces = {surface for surface, _ in names}
    free = [s for s in distinct if not any(surface in s.text for surface in surfaces)]
    return Lesson(
        taught=[distinct[i] for i in taught],
        names=names,
        known=names & known,
        later=[distinct[i] for i in sorted(later)],
        others=[free[i] for i in limited(len(free), arguments.others)],
    )


def measure(lesson: Lesson, answers: Answers) -> dict[str, Any]:
    """Teaches the lesson and compares the answers."""
    before = answers.of(lesson.later), answers.of(lesson.others), answers.of(lesson.taught)
    with tempfile.TemporaryDirectory() as folder:
        book = TaughtBook(TaughtLog(store=Store.open(folder)))
        book.teach(NAMESPACE, records(lesson.taught, answers.opened), created_at="2026-01-01T00:00:00+00:00")
        seen = SeenTaught(layers=TaughtLayers(book), view=TaughtView(namespace=NAMESPACE, own_seq=1))
        retriever = answers.retriever.seeing(seen)
        after = tuple(answers.of(some, retriever) for some in (lesson.later, lesson.others, lesson.taught))
    kinds = {"all": lesson.names, "new": lesson.names - lesson.known, "known": lesson.known}
    later = {kind: compared(lesson.later, before[0], after[0], names) for kind, names in kinds.items()}
    changed = sum(old != new for old, new in zip(before[1], after[1], strict=True))
    gold = [frozenset((e.start_char, e.end_char, e.label) for e in s.entities) for s in lesson.others]
    return {
        "taught": {
            "sentences": len(lesson.taught),
            "names": len(lesson.names),
            "names_known_to_the_index": len(lesson.known),
            "right_after": sum(g == a for g, a in zip(map(gold_of, lesson.taught), after[2], strict=True)),
        },
        "later": {"sentences": len(lesson.later), **later},
        "others": {
            "sentences": len(lesson.others),
            "changed": changed,
            "changed_share": changed / max(1, len(lesson.others)),
            "right_before": sum(g == a for g, a in zip(gold, before[1], strict=True)),
            "right_after": sum(g == a for g, a in zip(gold, after[1], strict=True)),
        },
    }


def compared(
    sentences: Sequence[Sentence], before: Sequence[Answer], after: Sequence[Answer], names: set[Name]
) -> dict[str, float]:
    """Counts the later mentions of names that were corrected, and those that were broken."""
    count = {"wrong_before": 0, "corrected": 0, "right_before": 0, "broken": 0}
    for sentence, old, new in zip(sentences, before, after, strict=True):
        for mention in mentions_of(sentence, names):
            was, kind = ("right_before", "broken") if mention in old else ("wrong_before", "corrected")
            count[was] += 1
            count[kind] += (mention in old) != (mention in new)
    return {
        **count,
        "corrected_share": count["corrected"] / max(1, count["wrong_before"]),
        "broken_share": count["broken"] / max(1, count["right_before"]),
    }


def names_of(sentence: Sentence) -> set[Name]:
    """Returns surface and label of a sentence's gold mentions."""
    return {(sentence.text[e.start_char : e.end_char], e.label) for e in sentence.entities}


def gold_of(sentence: Sentence) -> Answer:
    """Returns the gold answer."""
    return frozenset((e.start_char, e.end_char, e.label) for e in sentence.entities)


def mentions_of(sentence: Sentence, names: set[Name]) -> Iterable[tuple[int, int, str]]:
    """Yields the gold mentions of a sentence that are one of the names."""
    for e in sentence.entities:
        if (sentence.text[e.start_char : e.end_char], e.label) in names:
            yield e.start_char, e.end_char, e.label


def wrong_names(sentence: Sentence, answer: Answer) -> set[Name]:
    """Returns the gold mentions that an answer misses or labels otherwise."""
    missed = gold_of(sentence) - answer
    return {(sentence.text[start:end], label) for start, end, label in missed}


def records(sentences: Sequence[Sentence], opened: OpenRelease) -> list[Sentence]:
    """Returns corpus sentences as they are taught."""
    labels = {code: adapter.labels for code, adapter in opened.adapters.items()}
    return check_examples(
        [
            {
                "text": s.text,
                "language": s.language,
                "entities": [
                    {"start_char": e.start_char, "end_char": e.end_char, "label": e.label} for e in s.entities
                ],
            }
            for s in sentences
        ],
        labels,
        opened.indexes,
    )


def is_taken(sentence: Sentence, opened: OpenRelease) -> bool:
    """Tells whether a sentence may be taught: some gold begins inside a word."""
    try:
        records([sentence], opened)
    except InputError:
        return False
    return True


def shares(measured: dict[str, Any]) -> dict[str, float]:
    """Returns the shares that are shown, by what they are of."""
    later = measured["later"]
    return {
        "later mentions, wrong before: corrected": later["all"]["corrected_share"],
        "of these, names new to the index: corrected": later["new"]["corrected_share"],
        "of these, names the index knew: corrected": later["known"]["corrected_share"],
        "later mentions, right before: broken": later["all"]["broken_share"],
        "sentences without these names: changed": measured["others"]["changed_share"],
    }


def draw(measured: dict[str, Any], count: int) -> Figure:
    """Draws the shares."""
    shown = dict(reversed(shares(measured).items()))
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(list(shown), list(shown.values()), color="#7aa6c2")
    for place, share in enumerate(shown.values()):
        axes.text(share, place, f" {share:.3f}", va="center")
    axes.set(xlim=(0.0, 1.0), xlabel="share", title=f"after {count} taught sentences")
    return figure


if __name__ == "__main__":
    main()
