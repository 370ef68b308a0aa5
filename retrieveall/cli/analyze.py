"""``retrieveall analyze``: what a trained adapter is made of."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.evaluate import named_adapter
from retrieveall.cli.flags import JsonFlag, ThreadsFlag, split_list
from retrieveall.cli.output import dev_text, libraries_on_stderr, note, print_json, print_line, print_table
from retrieveall.cli.progress import progress_bars
from retrieveall.cli.session import Session

if TYPE_CHECKING:
    from retrieveall.training.transfer import TransferReport
    from retrieveall.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look into trained adapters: what languages share."
)


@app.callback()
def _commands() -> None:
    """Keeps ``transfer`` a command of its own while it is the only one."""


@app.command()
def transfer(
    context: typer.Context,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|mul@DIGEST", help="A polyglot adapter, or its run. [default: the only one there is]"
        ),
    ] = None,
    percents: Annotated[
        str | None,
        typer.Option(
            metavar="Q,…", help="Shares of the weights to keep, in percent. [default: 1,5,10,25,50,100]"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Dev sentences per language.")] = 300,
    name: Annotated[
        str | None, typer.Option(help="Folder below reports/. [default: made of the adapter's digest]")
    ] = None,
    threads: ThreadsFlag = 1,
    as_json: JsonFlag = False,
) -> None:
    """Asks which weights of a polyglot adapter each language needs, and which of them all languages share.

    Computes the diagonal Fisher information of every language on its dev sentences, the F1 with only the top
    q % of the weights by it, how far two languages' top sets overlap, and how much of the move of adapters
    that were continued from this one fell into the shared set. Writes report.json and pictures into the
    workspace's reports/ folder.

    \b
    Examples:
      retrieveall train --strategy polyglot_then_monolingual && retrieveall analyze transfer
      retrieveall analyze transfer --adapter mul@0123456789abcdef --percents 5,20,100 --limit 100
    """
    with libraries_on_stderr():
        workspace = Session.of(context).open()
        report = run_analysis(workspace, adapter, split_list(percents), limit, threads)
        folder = save_transfer(workspace, name or f"transfer-{report.adapter}", report)
    if as_json:
        print_json(report.to_dict())
        note(f"report: {folder}")
    else:
        show_transfer(report)
        print_line(f"report: {folder}")


def run_analysis(
    workspace: Workspace, reference: str | None, percents: tuple[str, ...], limit: int, threads: int
) -> TransferReport:
    """Analyses a polyglot adapter in this process, on a GPU where there is one."""
    from retrieveall.models.devices import device_at_hand
    from retrieveall.training.run import Device
    from retrieveall.training.transfer import PERCENTS, TransferChoice, analyze_transfer

    chosen = TransferChoice(
        adapter=named_adapter(workspace, reference)[1] if reference else _only_polyglot(workspace),
        percents=tuple(map(_percent, percents)) or PERCENTS,
        dev_limit=limit,
    )
    device = Device(name=device_at_hand(), threads=threads)
    with progress_bars("analysing") as move:
        return analyze_transfer(workspace, chosen, device, on_progress=move)


def _percent(text: str) -> float:
    from retrieveall.errors import InputError

    try:
        return float(text)
    except ValueError:
        raise InputError(f"--percents holds {text!r}; expected numbers such as 1,5,10.") from None


def _only_polyglot(workspace: Workspace) -> str:
    from retrieveall.errors import InputError
    from retrieveall.languages import POLYGLOT

    found = [one.digest for one in workspace.pool.list(POLYGLOT)]
    if len(found) != 1:
        listed = f": {', '.join(f'{POLYGLOT}@{digest}' for digest in found)}" if found else ""
        raise InputError(
            f"The workspace has {len(found)} polyglot adapters{listed}. Name one with --adapter, or train"
            " one: `retrieveall train --strategy polyglot_then_monolingual`."
        )
    return found[0]


def save_transfer(workspace: Workspace, name: str, report: TransferReport) -> str:
    """Writes ``report.json`` and one PNG per picture; returns the folder's URI."""
    from retrieveall.evaluation.plots import save_png
    from retrieveall.training.transfer_plots import transfer_figures

    store = workspace.report(name)
    store.write_json("report.json", report.to_dict())
    with tempfile.TemporaryDirectory() as scratch:
        for picture, figure in transfer_figures(report).items():
            file = Path(scratch) / f"{picture}.png"
            save_png(figure, file)
            store.write_bytes(file.name, file.read_bytes())
    return store.uri


def show_transfer(report: TransferReport) -> None:
    """Prints F1 by share of the weights, the mean overlap with its chance, and where adapters moved."""
    codes = list(report.sentences)
    rows = [
        [f"{one.percent:g} %", *(dev_text(one.dev[code], synthetic=report.synthetic) for code in codes)]
        for one in report.kept
    ]
    print_table(["weights kept", *codes], rows, title="strict dev F1 [95 %]")
    overlaps = [[f"{one.percent:g} %", one.mean_overlap, one.chance, one.shared] for one in report.overlaps]
    print_table(["top", "mean overlap of two", "chance", "shared by all"], overlaps, title="overlap")
    if report.moved:
        shared = {one.percent: one.shared for one in report.overlaps}
        moves = [
            [one.language, one.adapter, f"{one.percent:g} %", one.in_shared, shared[one.percent], one.in_own]
            for one in report.moved
        ]
        columns = ["language", "adapter", "top", "move in shared", "chance", "move in own top"]
        print_table(columns, moves, title="where continued adapters moved")
