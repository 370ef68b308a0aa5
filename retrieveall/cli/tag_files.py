"""``retrieveall tag --input … --output …``: the offline job, its progress and its summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieveall.cli.flags import InputFormatChoice, OffsetsChoice, RoutingChoice
from retrieveall.cli.output import libraries_on_stderr, print_json, print_line, print_table
from retrieveall.cli.process import gpus_wanted, ray_running
from retrieveall.cli.progress import NamedProgress, progress_bars
from retrieveall.errors import InputError

if TYPE_CHECKING:
    from retrieveall.offline.exports import ExportOutcome
    from retrieveall.offline.progress import TagProgress
    from retrieveall.offline.summary import TagSummary
    from retrieveall.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class TagFilesRequest:
    """The flags of the command."""

    input: str | None
    output: str | None
    texts: tuple[str, ...]
    format: InputFormatChoice | None
    text_column: str
    language_column: str | None
    language: str | None
    labels: tuple[str, ...]
    min_score: float
    offsets: OffsetsChoice
    explain: bool
    routing: RoutingChoice | None
    examples: bool
    release: int | None
    exports: tuple[str, ...]
    rows_per_fragment: int
    actors: int | None
    threads: int
    gpus_per_actor: float | None


def tag_files(workspace: Workspace, request: TagFilesRequest, *, as_json: bool) -> None:
    """Tags files, writes exports, and prints the summary.

    Raises:
        InputError: Flags contradict each other, or the input cannot be read.
    """
    with libraries_on_stderr():
        summary, exports = run_tag_job(workspace, request)
    if as_json:
        print_json({**summary.to_dict(), "exports": [one.to_dict() for one in exports]})
    else:
        show_summary(summary, exports)


def run_tag_job(workspace: Workspace, request: TagFilesRequest) -> tuple[TagSummary, Sequence[ExportOutcome]]:
    """Tags on this machine or the cluster that ``RAY_ADDRESS`` names, and writes the exports."""
    from retrieveall.offline.exports import check_exports, export_corpus
    from retrieveall.offline.options import TagOptions
    from retrieveall.storage import Store
    from train_jobs.pool import PoolResources
    from train_jobs.tag_corpus import TagRequest, tag_corpus

    source, target = _places(request)
    formats = check_exports(request.exports)
    options = TagOptions(
        text_column=request.text_column,
        language_column=request.language_column,
        language=request.language,
        format=request.format,
        labels=tuple(sorted(request.labels)) or None,
        min_score=request.min_score,
        routing=request.routing,
        examples=request.examples,
        rows_per_fragment=request.rows_per_fragment,
    )
    job = TagRequest(input=source, output=target, options=options, release=request.release)
    with ray_running(), progress_bars("tagging") as move:
        resources = PoolResources(
            actors=request.actors,
            cpus_per_actor=request.threads,
            gpus_per_actor=gpus_wanted(request.gpus_per_actor),
        )
        summary = tag_corpus(workspace, job, resources, on_progress=_mover(move))
    return summary, export_corpus(Store.open(target), formats)


def _places(request: TagFilesRequest) -> tuple[str, str]:
    """Returns input and output, where the other flags fit to them."""
    if request.input is None or request.output is None:
        raise InputError("--input and --output belong together; give both, or texts alone.")
    if request.texts:
        raise InputError("Texts and --input were given; give one of them.")
    if request.explain or request.offsets != "codepoint":
        raise InputError("--explain and --offsets are for texts: with --input the output is always the same.")
    return request.input, request.output


def _mover(move: NamedProgress) -> Callable[[TagProgress], None]:
    return lambda progress: move("", progress.done, progress.total, progress.line())


def show_summary(summary: TagSummary, exports: Sequence[ExportOutcome]) -> None:
    """Prints languages and labels, errors, and where everything is."""
    counts = summary.statistics
    labels = list(counts.labels)
    rows = [
        [code, number, *(counts.entities.get(code, {}).get(label, 0) for label in labels)]
        for code, number in counts.sentences.items()
    ]
    print_table(["language", "sentences", *labels], rows)
    for error in counts.shown_errors[:5]:
        print_line(f"{error.file}, row {error.row}: {error.error}")
    print_line(
        f"{counts.rows:,} rows, {counts.errors:,} errors, release {summary.job['release']}"
        f" ({summary.reused_rows:,} rows were done before)"
    )
    print_line(f"rows: {summary.output}/rows, summary: {summary.output}/summary.html")
    for export in exports:
        print_line(f"export: {summary.output}/{export.path}")
