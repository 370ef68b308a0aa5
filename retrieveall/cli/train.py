"""``retrieveall train``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from retrieveall.cli.flags import (
    BaseModelFlag,
    CorpusFlag,
    JsonFlag,
    LanguagesFlag,
    OnOff,
    StrategyFlag,
    split_list,
)
from retrieveall.cli.groups import grouped
from retrieveall.cli.output import dev_text, libraries_on_stderr, note, print_json, print_line, print_table
from retrieveall.cli.process import gpus_wanted, ray_running
from retrieveall.cli.progress import progress_bars
from retrieveall.cli.session import Session, claim_base, learn_for_release

if TYPE_CHECKING:
    from retrieveall.lora.card import StrategyName
    from retrieveall.workspace import Workspace
    from train_jobs.train_adapters import TrainReport

EXIT_REFUSED: Final = 3
"""All was trained, but not all of it published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRequest:
    """What is to be trained.

    Attributes:
        recipe: Fields of `AdapterTrainingConfig` that differ from workspace and defaults.
        gpus_per_worker: None takes one where there is one.
        pack_size: Most adapters that one worker trains at once.
    """

    corpus: str | None = None
    languages: tuple[str, ...] = ()
    strategy: StrategyName = "monolingual"
    shots: int | None = None
    base_model: str | None = None
    examples: bool = True
    train_limit: int | None = None
    dev_limit: int = 500
    recipe: dict[str, Any] = field(default_factory=dict)
    publish: bool = True
    force: bool = False
    pack_size: int = 1
    workers_per_language: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    max_failures: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeFlags:
    """Fields of `AdapterTrainingConfig` that a user may want to change; None leaves them."""

    rank: Annotated[int | None, typer.Option(help="Rank of the LoRA: 8, 16, 32, 64 or 128.")] = None
    alpha: Annotated[
        int | None, typer.Option(help="The update is alpha / rank · B A. [default: 2 · rank]")
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the training sentences. [default: 2, more on small corpora]"),
    ] = None
    batch_rows: Annotated[int | None, typer.Option(help="Sentences of one forward pass.")] = None
    accumulate: Annotated[int | None, typer.Option(help="Forward passes of one step.")] = None
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the schedule.")] = None
    patience: Annotated[
        int | None,
        typer.Option(help="Passes without a better dev loss that end it; the best one is kept. [default: 2]"),
    ] = None
    save_steps: Annotated[int | None, typer.Option(help="Steps between two checkpoints.")] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            help="What the base computes in; bfloat16 is faster on CPUs that multiply it."
            " [default: bfloat16 on a GPU, else float32]"
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Of weights, order and dropped examples.")] = None

    def given(self) -> dict[str, Any]:
        """Returns the flags that were given; a rank alone sets alpha too."""
        flags = asdict(self)
        if self.rank is not None and self.alpha is None:
            flags["alpha"] = 2 * self.rank
        return {name: value for name, value in flags.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerFlags:
    """What each run may use, see `train_adapters.Resources`."""

    packed: Annotated[
        bool,
        typer.Option(
            "--packed",
            help="Train several adapters in one worker, over one base and in the same batches,"
            " where there is no room for a worker each.",
        ),
    ] = False
    pack_size: Annotated[int, typer.Option(min=2, help="Most adapters of one pack, with --packed.")] = 8
    workers_per_language: Annotated[int, typer.Option(help="Workers that share one adapter's batches.")] = 1
    cpus_per_worker: Annotated[int, typer.Option(help="CPUs, and threads of torch, of one worker.")] = 1
    gpus_per_worker: Annotated[
        float | None, typer.Option(help="GPUs of one worker. [default: 1 where there is one, else 0]")
    ] = None
    max_failures: Annotated[int, typer.Option(help="Restarts of a run whose worker died.")] = 2

    def given(self) -> dict[str, Any]:
        """Returns the fields of `TrainRequest`."""
        flags = asdict(self)
        packed = flags.pop("packed")
        return flags if packed else {**flags, "pack_size": 1}


@grouped
def train(
    context: typer.Context,
    *,
    corpus: CorpusFlag = None,
    languages: LanguagesFlag = None,
    strategy: StrategyFlag = "monolingual",
    shots: Annotated[
        int | None,
        typer.Option(help="Sentences that leave_language_out continues on, 0 for none. [default: all]"),
    ] = None,
    base_model: BaseModelFlag = None,
    examples: Annotated[OnOff, typer.Option(help="Show retrieved examples in the prompts.")] = "on",
    train_limit: Annotated[
        int | None, typer.Option(help="Training sentences per language, drawn at random. [default: all]")
    ] = None,
    dev_limit: Annotated[int, typer.Option(help="Dev sentences for the dev F1 on the adapter's card.")] = 500,
    publish: Annotated[bool, typer.Option(help="Make the adapters answer when they are done.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Publish even what is worse on dev than what it replaces.")
    ] = False,
    recipe: RecipeFlags,
    workers: WorkerFlags,
    as_json: JsonFlag = False,
) -> None:
    """Trains one adapter per language, side by side as far as the resources reach, and publishes them.

    Other strategies share what languages have in common; each of the two stages of polyglot_then_monolingual
    has half of the passes.

    With --packed the adapters of several languages are trained in one process. Each becomes what it would
    have become alone, up to rounding, and counts as the same run.

    Killed, it goes on where it stopped when the same command is given again; what is finished is not trained
    twice unless data, settings or base changed. An adapter that is worse on dev than the one it would replace
    stays in the pool, unpublished: exit code 3. RAY_ADDRESS sends the work to a cluster.

    \b
    Examples:
      retrieveall train                                       all languages of the workspace
      retrieveall train --corpus panx --languages nl,de --train-limit 5000
      retrieveall train --base-model Qwen/Qwen3-1.7B --rank 16 --gpus-per-worker 1
      retrieveall train --packed --pack-size 16               many small languages on one GPU
      retrieveall train --examples off                        no examples in training nor, later, in tagging
      retrieveall train --strategy polyglot_then_monolingual  share, then specialise
    """
    request = TrainRequest(
        corpus=corpus,
        languages=split_list(languages),
        strategy=strategy,
        shots=shots,
        base_model=base_model,
        examples=examples == "on",
        train_limit=train_limit,
        dev_limit=dev_limit,
        recipe=recipe.given(),
        publish=publish,
        force=force,
        **workers.given(),
    )
    with libraries_on_stderr():
        report = run_training(Session.of(context).open(), request)
    if as_json:
        print_json(report.to_dict())
    else:
        show_training(report)
    failed = [outcome for outcome in report.outcomes if outcome.error]
    for outcome in failed:
        note(f"retrieveall: error: {outcome.language}: {outcome.error}")
    if failed or report.refused:
        raise typer.Exit(1 if failed else EXIT_REFUSED)


def run_training(workspace: Workspace, request: TrainRequest) -> TrainReport:
    """Trains what a request asks for, on this machine or the cluster that ``RAY_ADDRESS`` names."""
    from retrieveall.training.planning import TrainingChoice, plan_specs, training_config
    from train_jobs.packs import Resources
    from train_jobs.train_adapters import train_adapters

    settings = workspace.settings()
    base_model, base_digest = claim_base(workspace, request.base_model)
    choice = TrainingChoice(
        base_model=base_model,
        base_digest=base_digest,
        config=training_config(settings, request.recipe),
        corpus=request.corpus,
        languages=request.languages or None,
        strategy=request.strategy,
        shots=request.shots,
        examples=request.examples,
        threshold_std=settings.prompt.threshold_std,
        train_limit=request.train_limit,
        dev_limit=request.dev_limit,
        workers=request.workers_per_language,
    )
    resources = Resources(
        pack_size=request.pack_size,
        workers_per_language=request.workers_per_language,
        cpus_per_worker=request.cpus_per_worker,
        max_failures=request.max_failures,
    )
    stages = plan_specs(workspace, choice)
    with ray_running(), progress_bars("training") as move:
        resources = replace(resources, gpus_per_worker=gpus_wanted(request.gpus_per_worker))
        report = train_adapters(
            workspace, stages, resources, publish=request.publish, force=request.force, on_progress=move
        )
    if report.release is not None:
        learn_for_release(workspace)
    return report


def show_training(report: TrainReport) -> None:
    """Prints one row per adapter and the release they went into."""
    rows = [
        [
            outcome.language,
            outcome.adapter or "failed",
            dev_text(outcome.dev),
            "trained before" if outcome.reused else f"{outcome.seconds:.0f} s",
        ]
        for outcome in report.outcomes
    ]
    print_table(["language", "adapter", "dev F1 [95 %]", "time"], rows)
    if report.release is not None:
        print_line(f"release {report.release}")
    for reason in report.refused.values():
        print_line(f"not published: {reason}")
