"""``retrieveall eval``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.adapters import split_reference
from retrieveall.cli.flags import (
    CorpusFlag,
    ExamplesFlag,
    JsonFlag,
    LanguagesFlag,
    OnOff,
    ReleaseFlag,
    RoutingOrOracle,
    SplitChoice,
    ThreadsFlag,
    split_list,
)
from retrieveall.cli.output import libraries_on_stderr, note, print_json, print_line, print_tables
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session

if TYPE_CHECKING:
    from retrieveall.evaluation.comparison import Comparison
    from retrieveall.evaluation.report import EvalReport
    from retrieveall.opening import OpenRelease
    from retrieveall.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalRequest:
    """What is to be evaluated.

    Attributes:
        adapters: Adapters that stand in for those of the release: ``LANG@DIGEST`` or names of runs.
        name: Of the report's folder; None makes one of the settings.
    """

    corpus: str | None = None
    languages: tuple[str, ...] = ()
    split: SplitChoice = "test"
    limit: int | None = None
    routing: RoutingOrOracle | None = None
    examples: bool = True
    prior: bool = True
    adapters: tuple[str, ...] = ()
    detokenised: bool = True
    release: int | None = None
    threads: int = 1
    name: str | None = None
    seed: int = 0


def eval_(
    context: typer.Context,
    corpus: CorpusFlag = None,
    languages: LanguagesFlag = None,
    split: Annotated[SplitChoice, typer.Option(help="Which split is tagged.")] = "test",
    limit: Annotated[
        int | None, typer.Option(help="Sentences per language, drawn the same way every time. [default: all]")
    ] = None,
    routing: Annotated[
        RoutingOrOracle | None,
        typer.Option(
            help="How adapters are chosen; oracle: by the corpus. [default: the workspace's, linear]"
        ),
    ] = None,
    examples: ExamplesFlag = "on",
    prior: Annotated[
        OnOff, typer.Option(help="Let the prior, a CRF of the indexes' sentences, have its say.")
    ] = "on",
    adapters: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|LANG@DIGEST,…", help="Adapters, or training runs, that stand in for the release's."
        ),
    ] = None,
    detokenised: Annotated[bool, typer.Option(help="Also tag the text as people write it.")] = True,
    release: ReleaseFlag = None,
    name: Annotated[
        str | None, typer.Option(help="Folder below reports/. [default: made of the flags]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap intervals.")] = 0,
    threads: ThreadsFlag = 1,
    as_json: JsonFlag = False,
) -> None:
    """Tags a split and scores it: strict span and type micro-F1 with 95 % bootstrap intervals.

    Writes report.json and report.html into the workspace's reports/ folder. ECE is the expected calibration
    error: how far scores are from the share of entities that is right, 0 is best.

    \b
    Examples:
      retrieveall eval --corpus panx --languages nl,de --limit 2000
      retrieveall eval --examples off --json
      retrieveall eval --prior off                  the model alone decides
      retrieveall eval --routing centroid --adapters nl@0123456789abcdef
    """
    request = EvalRequest(
        corpus=corpus,
        languages=split_list(languages),
        split=split,
        limit=limit,
        routing=routing,
        examples=examples == "on",
        prior=prior == "on",
        adapters=split_list(adapters),
        detokenised=detokenised,
        release=release,
        threads=threads,
        name=name,
        seed=seed,
    )
    with libraries_on_stderr():
        report, folder = run_evaluation(Session.of(context).open(), request)
    if as_json:
        print_json(report.to_dict())
        note(f"report: {folder}")
    else:
        show_report(report)
        print_line(f"report: {folder}")


def run_evaluation(workspace: Workspace, request: EvalRequest) -> tuple[EvalReport, str]:
    """Evaluates and writes the report; returns it with its folder."""
    from retrieveall.evaluation.run import EvalChoice, evaluate_tagger
    from retrieveall.opening import OpenOptions, open_tagger

    if request.name is not None:
        workspace.report(request.name)  # a name that cannot be a folder is an error now, not after the work
    routing = request.routing or workspace.settings().retrieval.routing
    options = OpenOptions(
        release=request.release,
        languages=request.languages or None,
        adapters=_adapters(workspace, request),
        routing=routing,
        examples=request.examples,
        prior=request.prior,
        threads=request.threads,
    )
    with open_tagger(workspace, options) as opened, progress_bar(_label(request)) as move:
        choice = EvalChoice(
            corpus=request.corpus,
            languages=request.languages or _with_corpus(workspace, opened.opened, request.corpus),
            split=request.split,
            limit=request.limit,
            oracle=routing == "oracle",
            detokenised=request.detokenised,
            name=f"{_shown(request)}, routing {routing}",
            settings=_settings(workspace, request, routing, opened.opened),
            seed=request.seed,
        )
        report = evaluate_tagger(workspace, opened.tagger, choice, on_progress=move)
    return report, save_reports(workspace, request.name or _folder_name(request, routing, report), [report])


def _label(request: EvalRequest) -> str:
    return f"evaluating with {_shown(request)}"


def _shown(request: EvalRequest) -> str:
    prior = "" if request.prior else ", prior off"
    return f"examples {'on' if request.examples else 'off'}{prior}"


def _adapters(workspace: Workspace, request: EvalRequest) -> dict[str, str]:
    """Returns the chosen adapters by language.

    A polyglot one stands in for all languages that are asked for, or for all that it knows.
    """
    from retrieveall.languages import POLYGLOT

    chosen: dict[str, str] = {}
    for reference in request.adapters:
        language, digest = named_adapter(workspace, reference)
        known = request.languages or tuple(workspace.pool.get(digest).card.sources)
        chosen |= dict.fromkeys(known if language == POLYGLOT else (language,), digest)
    return chosen


def named_adapter(workspace: Workspace, reference: str) -> tuple[str, str]:
    """Returns language and digest of ``LANG@DIGEST`` or of a finished run."""
    from retrieveall.errors import NotFoundError

    if "@" in reference:
        return split_reference(reference)
    run = workspace.run(reference)
    if not run.exists("result.json"):
        raise NotFoundError(
            f"There is no finished training run {reference!r} in {workspace.uri}/runs."
            " Name one that is there, or an adapter as LANG@DIGEST."
        )
    result = run.read_json("result.json")
    return str(result["language"]), str(result["adapter"])


def _with_corpus(workspace: Workspace, opened: OpenRelease, corpus: str | None) -> tuple[str, ...]:
    """Returns the languages of the release that have a corpus."""
    from retrieveall.errors import NotFoundError

    there = {m.language for m in workspace.corpora.list() if corpus in (None, m.name)}
    languages = tuple(code for code in opened.release.languages if code in there)
    if not languages:
        raise NotFoundError(
            f"None of the release's languages ({', '.join(opened.release.languages)}) has a corpus"
            f"{f' {corpus!r}' if corpus else ''}. Import one: retrieveall corpus import."
        )
    return languages


def _settings(
    workspace: Workspace, request: EvalRequest, routing: str, opened: OpenRelease
) -> dict[str, object]:
    """Returns what made the scores, as JSON values."""
    entries = opened.release.languages.items()
    return {
        "corpus": request.corpus,
        "split": request.split,
        "limit": request.limit,
        "routing": routing,
        "examples": request.examples,
        "prior": request.prior,
        "adapters": {code: entry.adapter for code, entry in entries},
        "indexes": {code: entry.index for code, entry in entries},
        "base_model": opened.base_model,
        "base_digest": opened.release.base_digest,
        "threads": request.threads,
        "workspace": workspace.settings().to_dict(),
    }


def _folder_name(request: EvalRequest, routing: str, report: EvalReport) -> str:
    parts = [
        request.split,
        f"release{report.release}",
        routing,
        f"examples-{'on' if request.examples else 'off'}",
        *([] if request.prior else ["prior-off"]),
    ]
    return "-".join([*([request.corpus] if request.corpus else []), *parts])


def save_reports(
    workspace: Workspace, name: str, reports: Sequence[EvalReport], comparisons: Sequence[Comparison] = ()
) -> str:
    """Writes ``report.json`` (of the first) and the page that shows all; returns the folder's URI."""
    from retrieveall.evaluation.page import write_page
    from retrieveall.evaluation.report import write_report

    store = workspace.report(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_report(reports[0], folder / "report.json")
        write_page(reports, folder / "report.html", comparisons=comparisons)
        for file in folder.iterdir():
            store.write_bytes(file.name, file.read_bytes())
    return store.uri


def show_report(report: EvalReport) -> None:
    """Prints the tables of a report."""
    from retrieveall.evaluation.table import report_tables

    print_tables(report_tables(report))
