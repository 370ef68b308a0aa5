"""``retrieveall quickstart``: the whole method on the sample corpus, from import to tags."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from retrieveall.cli.evaluate import EvalRequest, run_evaluation, save_reports, show_report
from retrieveall.cli.flags import BaseModelFlag, JsonFlag, StrategyFlag, split_list
from retrieveall.cli.index import IndexFlags, run_indexing, show_indexes
from retrieveall.cli.output import libraries_on_stderr, print_json, print_line, print_table, print_tables
from retrieveall.cli.process import ray_running
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.serve import DEFAULT_PORT, serve_until_interrupted, service_args
from retrieveall.cli.session import Session
from retrieveall.cli.tag import show_answer
from retrieveall.cli.train import TrainRequest, run_training, show_training

if TYPE_CHECKING:
    from retrieveall.evaluation.report import EvalReport
    from retrieveall.workspace import Workspace
    from train_jobs.build_index import IndexOutcome
    from train_jobs.train_adapters import TrainReport

CORPUS: Final = "sample"

DEMO_TEXTS: Final = {
    "en": (
        "Marta Lindqvist moved from Bristol to Nairobi.",
        "Daniel Osei works for the Harbour Museum in Leeds.",
    ),
    "es": ("Lucía Herrero nació en Toledo.", "El Atlético Serena jugará el domingo en Valparaíso."),
    "de": ("Jonas Weidner arbeitet bei der Sparkasse Elmstadt.", "Helga Brandt fliegt morgen nach Wien."),
    "ru": ("Анна Белова переехала из Казани в Ригу.", "Тренер Игорь Лапин покидает «Звезду»."),
    "fr": ("Camille Rousset a quitté Lyon pour Genève.", "Paul Lemaire dirige la Banque des Alpes."),
    "zh": ("王建国离开杭州后加入了东海银行。", "李晓梅明天飞往成都。"),
    "ja": ("山本健太さんは大阪で生まれた。", "佐藤恵子さんは東海新聞の記者だ。"),
    "sw": ("Amina Juma alihamia Arusha.", "Peter Mwangi anafanya kazi na Benki ya Bahari."),
}
"""Two sentences of each sample language that stand in no corpus."""

_TEXTS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Tour:
    """What a quickstart made.

    Attributes:
        seconds: Time of each step.
        texts: What was tagged.
        body: The answer, as `POST /v1/tag` gives it.
    """

    indexes: Sequence[IndexOutcome]
    training: TrainReport
    with_examples: EvalReport
    without_examples: EvalReport
    texts: Sequence[str]
    body: dict[str, Any]
    seconds: dict[str, float]
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the tour as JSON values."""
        return {
            "indexes": [outcome.to_dict() for outcome in self.indexes],
            "training": self.training.to_dict(),
            "examples_on": self.with_examples.to_dict(),
            "examples_off": self.without_examples.to_dict(),
            "texts": list(self.texts),
            "tags": self.body,
            "seconds": self.seconds,
            "report": self.folder,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stopwatch:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start_s, 1)


def quickstart(
    context: typer.Context,
    languages: Annotated[
        str, typer.Option(metavar="en,es", help="Languages of the sample corpus: en es fr de ru zh ja sw.")
    ] = "en,es,de,ru",
    base_model: BaseModelFlag = None,
    strategy: StrategyFlag = "monolingual",
    train_limit: Annotated[
        int | None, typer.Option(help="Training sentences per language. [default: all, about 1,000]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over them. [default: the recipe's]")] = None,
    eval_limit: Annotated[
        int | None, typer.Option(help="Test sentences per language. [default: all, about 200]")
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Leave the service running at the end, for this machine and without keys."
        ),
    ] = False,
    port: Annotated[int, typer.Option(help="Its port.", min=1, max=65535)] = DEFAULT_PORT,
    as_json: JsonFlag = False,
) -> None:
    """Shows the whole method on the sample corpus: import, index, train, evaluate, tag.

    The sample corpus is synthetic: its scores say that the machinery works, not how good the product is.
    Indexes and adapters that are there are not made again.
    """
    request = TrainRequest(
        corpus=CORPUS,
        languages=split_list(languages),
        strategy=strategy,
        base_model=base_model,
        train_limit=train_limit,
        recipe={} if epochs is None else {"epochs": epochs},
    )
    with libraries_on_stderr():
        tour = run_tour(Session.of(context).open(create=True), request, eval_limit)
    workspace = Session.of(context).workspace
    if as_json:
        print_json(tour.to_dict())
    else:
        show_tour(tour, workspace)
    if serve:
        serve_until_interrupted(service_args(workspace, keys="off"), port=port)


def run_tour(workspace: Workspace, request: TrainRequest, eval_limit: int | None) -> Tour:
    """Goes through all steps; see `quickstart`."""
    from retrieveall.errors import RetrieveAllError
    from retrieveall.evaluation.comparison import compare

    watch = _Stopwatch()
    languages = request.languages
    with watch.step("import"):
        import_sample(workspace, languages)
    indexing = IndexFlags(corpus=CORPUS, languages=languages, base_model=request.base_model)
    with ray_running():
        with watch.step("index"):
            indexes = run_indexing(workspace, indexing)
        with watch.step("train"):
            training = run_training(workspace, request)
    failed = [f"{outcome.language}: {outcome.error}" for outcome in training.outcomes if outcome.error]
    if failed:
        raise RetrieveAllError(f"Training failed. {'; '.join(failed)}")
    evaluation = EvalRequest(corpus=CORPUS, languages=languages, limit=eval_limit, detokenised=False)
    with watch.step("evaluate, examples on"):
        on, _ = run_evaluation(workspace, evaluation)
    with watch.step("evaluate, examples off"):
        off, _ = run_evaluation(workspace, replace(evaluation, examples=False))
    texts = demo_texts(languages)
    with watch.step("tag"):
        body = _tag(workspace, texts)
    return Tour(
        indexes=indexes,
        training=training,
        with_examples=on,
        without_examples=off,
        texts=texts,
        body=body,
        seconds=watch.seconds,
        folder=save_reports(workspace, "quickstart", [on, off], [compare(on, off)]),
    )


def import_sample(workspace: Workspace, languages: Sequence[str]) -> None:
    """Writes the sample corpora of the languages into the workspace; what is there is left alone."""
    from retrieveall.corpus import import_corpus

    with progress_bar("importing the sample corpus") as move:
        for done, language in enumerate(languages):
            move(done, len(languages))
            import_corpus(workspace.corpora, CORPUS, format="sample", language=language, name=CORPUS)


def demo_texts(languages: Sequence[str]) -> list[str]:
    """Returns up to six texts in these languages; the last one mixes two, where there are two."""
    pairs = [DEMO_TEXTS[language] for language in languages]
    texts = [first for first, _ in pairs] + [second for _, second in pairs]
    mixed = [" ".join(second for _, second in pairs[:2])] if len(pairs) > 1 else []
    return [*texts[: _TEXTS - 1], *mixed]


def _tag(workspace: Workspace, texts: Sequence[str]) -> dict[str, Any]:
    from retrieveall.answer import AnswerOptions, answer_body
    from retrieveall.opening import open_tagger

    with progress_bar("tagging"), open_tagger(workspace) as opened:
        return answer_body(opened.tagger.release, texts, opened.tagger.tag(texts), AnswerOptions())


def show_tour(tour: Tour, workspace: str) -> None:
    """Prints what every step made, how long it took, and how to go on."""
    from retrieveall.evaluation.comparison import compare
    from retrieveall.evaluation.table import comparison_table

    show_indexes(tour.indexes)
    show_training(tour.training)
    show_report(tour.with_examples)
    print_line("\nThe same adapters, prompts without examples:")
    show_report(tour.without_examples)
    print_tables([comparison_table(compare(tour.with_examples, tour.without_examples))])
    show_answer(tour.texts, tour.body)
    print_table(["step", "seconds"], tour.seconds.items(), title="\ntimes")
    print_line(f"report: {tour.folder}\n\nGo on with your own texts:")
    print_line(f'  retrieveall --workspace {workspace} tag "{tour.texts[0]}" --json')
