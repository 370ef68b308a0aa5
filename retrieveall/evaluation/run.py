"""Tags a split of a corpus and scores it: what `retrieveall eval` and the evaluation job run.

Sentences of all languages are tagged together, in turn, so that batches mix languages as they do in
the service. Corpus rows are sentences already and are not split again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from retrieveall.corpus.limits import limited
from retrieveall.corpus.sample import citation_forms
from retrieveall.errors import InputError
from retrieveall.evaluation.language import LanguageReport, evaluate
from retrieveall.evaluation.report import EvalReport
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.tagger import Tagger, TextInput
from retrieveall.types import Sentence, Split, TaggedText
from retrieveall.workspace import Workspace

CHUNK_TEXTS = 256

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalChoice:
    """What is evaluated.

    Attributes:
        corpus: Name of the corpus; None where each language has only one.
        languages: At least one.
        limit: Sentences of each language, drawn the same way every time; None for all.
        oracle: Pin every sentence's language instead of routing it.
        detokenised: Also tag the sentences as people write them.
        name: Of the report.
        settings: What stands in the report beside the scores.
        seed: Of the bootstrap.
    """

    corpus: str | None
    languages: tuple[str, ...]
    split: Split = "test"
    limit: int | None = None
    oracle: bool = False
    detokenised: bool = True
    name: str = "RetrieveAll"
    settings: dict[str, Any]
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Language:
    code: str
    gold: list[Sentence]
    prose: list[Sentence]
    seen: SeenInTraining
    synthetic: bool


def evaluate_tagger(
    workspace: Workspace,
    tagger: Tagger,
    choice: EvalChoice,
    *,
    on_progress: OnProgress = lambda done, total: None,
) -> EvalReport:
    """Tags and scores.

    Args:
        workspace: Where the corpora are.
        tagger: What is evaluated.
        choice: On what.
        on_progress: Called with the sentences tagged and their number.

    Raises:
        NotFoundError: A corpus is missing.
        InputError: The split is empty, or a language has several corpora and none was named.
    """
    languages = [_load(workspace, choice, name, code) for name, code in _corpora(workspace, choice)]
    texts = sum(len(one.gold) for one in languages)
    total = 2 * texts if choice.detokenised else texts
    started = time.perf_counter()
    answers = _tag(tagger, [one.gold for one in languages], choice, lambda done: on_progress(done, total))
    seconds = time.perf_counter() - started
    prose: list[list[TaggedText]] | None = None
    if choice.detokenised:
        move = lambda done: on_progress(texts + done, total)  # noqa: E731 - shorter than a def here
        prose = _tag(tagger, [one.prose for one in languages], choice, move)
    reports = [
        _score(one, answers[place], prose[place] if prose else None, choice)
        for place, one in enumerate(languages)
    ]
    return EvalReport.of(
        reports,
        name=choice.name,
        sentences_per_s=texts / seconds,
        release=tagger.release or None,
        synthetic=any(one.synthetic for one in languages),
        settings=choice.settings,
        seed=choice.seed,
    )


def _corpora(workspace: Workspace, choice: EvalChoice) -> list[tuple[str, str]]:
    keys = workspace.corpora.resolve(choice.corpus, choice.languages)
    return [(key.name, key.language) for key in keys]


def _load(workspace: Workspace, choice: EvalChoice, name: str, code: str) -> _Language:
    store = workspace.corpora
    manifest = store.manifest(name, code)
    sentences = store.load(name, code, choice.split)
    if not sentences:
        raise InputError(
            f"Corpus {name!r} has no {choice.split} sentences for {code!r}; it has"
            f" {', '.join(manifest.sentences)}. Choose one of them with --split."
        )
    prose = store.load(name, code, choice.split, "detokenised")
    chosen = limited(len(sentences), choice.limit)
    citation = citation_forms(code) if manifest.synthetic else None
    return _Language(
        code=code,
        gold=[sentences[i] for i in chosen],
        prose=[prose[i] for i in chosen],
        seen=SeenInTraining.of(store.load(name, code, "train"), citation=citation),
        synthetic=manifest.synthetic,
    )


def _tag(
    tagger: Tagger, texts: Sequence[Sequence[Sentence]], choice: EvalChoice, move: Callable[[int], None]
) -> list[list[TaggedText]]:
    """Tags the sentences of all languages in turn; returns the answers by language."""
    order = sorted(
        ((place, index) for place, rows in enumerate(texts) for index in range(len(rows))),
        key=lambda key: (key[1], key[0]),
    )
    answers: list[list[TaggedText]] = [[] for _ in texts]
    for start in range(0, len(order), CHUNK_TEXTS):
        chunk = order[start : start + CHUNK_TEXTS]
        rows = [texts[place][index] for place, index in chunk]
        inputs = [TextInput(text=row.text, language=row.language if choice.oracle else None) for row in rows]
        for (place, _), answer in zip(chunk, tagger.tag(inputs, split=False), strict=True):
            answers[place].append(answer)
        move(start + len(chunk))
    return answers


def _score(
    one: _Language, answers: list[TaggedText], prose: list[TaggedText] | None, choice: EvalChoice
) -> LanguageReport:
    return evaluate(
        one.gold,
        [answer.entities for answer in answers],
        seen=one.seen,
        routed_languages=None if choice.oracle else [_routed(answer) for answer in answers],
        detokenised=(one.prose, [answer.entities for answer in prose]) if prose else None,
        seed=choice.seed,
    )


def _routed(answer: TaggedText) -> str | None:
    """Returns the language of a sentence's own adapter, None where a mixture answered."""
    if not answer.sentences or answer.sentences[0].composition != "selection":
        return None
    return answer.sentences[0].language
