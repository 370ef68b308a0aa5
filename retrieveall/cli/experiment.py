"""``retrieveall experiment``: plans of arms, run and reported."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.flags import BaseModelFlag, JsonFlag
from retrieveall.cli.groups import grouped
from retrieveall.cli.output import libraries_on_stderr, note, print_json, print_line, print_table
from retrieveall.cli.process import gpus_wanted, ray_running
from retrieveall.cli.progress import progress_bars
from retrieveall.cli.session import Session, claim_base
from retrieveall.cli.train import WorkerFlags

if TYPE_CHECKING:
    from retrieveall.experiments.summary import ExperimentReport
    from retrieveall.workspace import Workspace
    from train_jobs.run_experiment import ExperimentOutcome

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compare strategies, examples, routers and sizes: run a plan's arms, report what they found.",
)

PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="YAML file, see benchmarks/plans/.")]


@app.command()
@grouped
def run(
    context: typer.Context,
    plan: PlanArgument,
    base_model: BaseModelFlag = None,
    *,
    workers: WorkerFlags,
    as_json: JsonFlag = False,
) -> None:
    """Trains and tests every arm of a plan with every seed, side by side as far as the resources reach.

    Missing indexes are built first. Nothing is published. Killed, it goes on where it stopped when the same
    command is given again: a finished arm is not run again, nor a finished adapter trained again, also where
    another plan made it. RAY_ADDRESS sends the work to a cluster.

    \b
    Examples:
      retrieveall experiment run benchmarks/plans/examples.yaml
      retrieveall experiment run benchmarks/plans/strategies.yaml --packed
    """
    with libraries_on_stderr():
        outcome = run_plan(Session.of(context).open(), plan, base_model, workers)
    if as_json:
        print_json([asdict(arm) for arm in outcome.arms])
    else:
        print_table(
            ["arm", "seed", "kept as", ""],
            [[one.title, one.seed, one.name, one.state] for one in outcome.arms],
        )
    for arm in outcome.failed:
        note(f"retrieveall: error: {arm.title} (seed {arm.seed}): {arm.error}")
    if outcome.failed:
        raise typer.Exit(1)


def run_plan(
    workspace: Workspace, path: Path, base_model: str | None, workers: WorkerFlags
) -> ExperimentOutcome:
    """Runs a plan on this machine or the cluster that ``RAY_ADDRESS`` names."""
    from retrieveall.experiments.plan import read_plan
    from train_jobs.packs import Resources
    from train_jobs.run_experiment import run_experiment

    plan = read_plan(path)
    base = claim_base(workspace, base_model)
    given = workers.given()
    with ray_running(), progress_bars("experiment") as move:
        resources = Resources(**{**given, "gpus_per_worker": gpus_wanted(given["gpus_per_worker"])})
        return run_experiment(workspace, plan, base, resources, on_progress=move)


@app.command()
def report(
    context: typer.Context,
    plan: PlanArgument,
    as_json: JsonFlag = False,
) -> None:
    """Sums up the finished arms of a plan: means over seeds, intervals, paired bootstrap tests.

    Writes report.json, report.md and pictures into the workspace's reports/ folder. It needs no Ray and may
    be asked for while the plan still runs.

    \b
    Examples:
      retrieveall experiment report benchmarks/plans/examples.yaml
    """
    from retrieveall.experiments.tables import experiment_tables

    with libraries_on_stderr():
        workspace = Session.of(context).open()
        found = report_plan(workspace, plan)
        folder = save_experiment(workspace, found)
    if as_json:
        print_json(found.to_dict())
        note(f"report: {folder}")
    else:
        print_line(experiment_tables(found))
        print_line(f"report: {folder}")


def report_plan(workspace: Workspace, path: Path) -> ExperimentReport:
    """Reads what is finished of a plan and sums it up."""
    from retrieveall.experiments.arms import planned_arms
    from retrieveall.experiments.plan import read_plan
    from retrieveall.experiments.summary import summarise

    plan = read_plan(path)
    return summarise(workspace, plan, planned_arms(workspace, plan, claim_base(workspace, None)))


def save_experiment(workspace: Workspace, found: ExperimentReport) -> str:
    """Writes ``report.json``, ``report.md`` and one PNG per picture; returns the folder's URI."""
    from retrieveall.evaluation.plots import save_png
    from retrieveall.experiments.plots import experiment_figures
    from retrieveall.experiments.tables import experiment_tables

    store = workspace.report(f"experiment-{found.plan.name}")
    store.write_json("report.json", found.to_dict())
    store.write_text("report.md", experiment_tables(found))
    with tempfile.TemporaryDirectory() as scratch:
        for picture, figure in experiment_figures(found).items():
            file = Path(scratch) / f"{picture}.png"
            save_png(figure, file)
            store.write_bytes(file.name, file.read_bytes())
    return store.uri
