"""``retrieveall index``; ``retrieveall index compact`` stands in `retrieveall.cli.compact`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.compact import compact
from retrieveall.cli.flags import (
    BaseModelFlag,
    CorpusFlag,
    IndexKindChoice,
    JsonFlag,
    LanguagesFlag,
    split_list,
)
from retrieveall.cli.output import libraries_on_stderr, print_json, print_table
from retrieveall.cli.process import gpus_wanted, ray_running
from retrieveall.cli.progress import progress_bars
from retrieveall.cli.session import Session, claim_base

if TYPE_CHECKING:
    from retrieveall.embedding import EmbedderSpec
    from retrieveall.workspace import Workspace
    from train_jobs.build_index import IndexOutcome
    from train_jobs.pool import PoolResources


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFlags:
    """What is to be indexed; None takes what the workspace's settings say."""

    corpus: str | None = None
    languages: tuple[str, ...] = ()
    embedder: str | None = None
    base_model: str | None = None
    kind: IndexKindChoice | None = None
    rows_per_shard: int | None = None
    actors: int | None = None
    cpus_per_actor: int = 1
    gpus_per_actor: float | None = None


app = typer.Typer(rich_markup_mode=None)
app.command("compact")(compact)


@app.callback(invoke_without_command=True)
def index(
    context: typer.Context,
    corpus: CorpusFlag = None,
    languages: LanguagesFlag = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="ngram (hashed character n-grams, no weights), lm (states of the base model), or a"
            " sentence-transformers model. [default: the workspace's, ngram]",
        ),
    ] = None,
    base_model: BaseModelFlag = None,
    kind: Annotated[
        IndexKindChoice | None, typer.Option(help="How a shard is searched. [default: auto, by its size]")
    ] = None,
    rows_per_shard: Annotated[int | None, typer.Option(help="Rows of one shard file.")] = None,
    actors: Annotated[
        int | None, typer.Option(help="Most workers. [default: as many as the CPUs hold]")
    ] = None,
    cpus_per_actor: Annotated[int, typer.Option(help="CPUs, and threads, of one worker.")] = 1,
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(help="GPUs of one worker. [default: 1 where there is one, for lm and models; else 0]"),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Embeds every training sentence and mention and finds the neighbours of the training set.

    A finished index is left as it is, a killed build goes on where it stopped. RAY_ADDRESS sends the work to
    a cluster.

    \b
    Examples:
      retrieveall index
      retrieveall index --corpus panx --languages nl,de
      retrieveall index --embedder lm --base-model Qwen/Qwen3-1.7B
    """
    if context.invoked_subcommand is not None:
        return
    request = IndexFlags(
        corpus=corpus,
        languages=split_list(languages),
        embedder=embedder,
        base_model=base_model,
        kind=kind,
        rows_per_shard=rows_per_shard,
        actors=actors,
        cpus_per_actor=cpus_per_actor,
        gpus_per_actor=gpus_per_actor,
    )
    with libraries_on_stderr():
        outcomes = run_indexing(Session.of(context).open(), request)
    if as_json:
        print_json([outcome.to_dict() for outcome in outcomes])
    else:
        show_indexes(outcomes)


def run_indexing(workspace: Workspace, request: IndexFlags) -> list[IndexOutcome]:
    """Builds indexes on this machine or the cluster that ``RAY_ADDRESS`` names."""
    from retrieveall.config import configured
    from retrieveall.retrieval import IndexOptions
    from train_jobs.build_index import build_index

    settings = workspace.settings()
    embedder = request.embedder or settings.retrieval.embedder
    flags = {"kind": request.kind, "rows_per_shard": request.rows_per_shard}
    given = {name: value for name, value in flags.items() if value is not None}
    options = configured(IndexOptions, {**settings.shards, **given}, source="settings of shards")
    keys = workspace.corpora.resolve(request.corpus, request.languages or None)
    spec = _spec(workspace, embedder, request.base_model)
    with ray_running(), progress_bars("indexing") as move:
        resources = _resources(request, spec)
        outcomes = build_index(workspace, keys, spec, options, resources, on_progress=move)
    workspace.set_embedder(outcomes[0].manifest.embedder["name"])
    return outcomes


def _resources(request: IndexFlags, spec: EmbedderSpec) -> PoolResources:
    """Returns what the job may use; only an embedder with a model takes GPUs without being told to."""
    from train_jobs.pool import PoolResources

    gpus = request.gpus_per_actor
    if gpus is not None or spec.has_weights:
        gpus = gpus_wanted(gpus)
    return PoolResources(
        actors=request.actors, cpus_per_actor=request.cpus_per_actor, gpus_per_actor=gpus or 0.0
    )


def _spec(workspace: Workspace, embedder: str, base_model: str | None) -> EmbedderSpec:
    """Returns the embedder; the base is fixed only where one was named or the embedder needs it."""
    from retrieveall.embedding import spec_for

    needed = embedder == "lm" or base_model is not None
    return spec_for(embedder, base_model=claim_base(workspace, base_model)[0] if needed else None)


def show_indexes(outcomes: Sequence[IndexOutcome]) -> None:
    """Prints one row per index with what its neighbours look like."""
    columns = ["language", "corpus", "index", "sentences", "mentions", "shown", "entity holds gold", ""]
    rows = []
    for outcome in outcomes:
        one = outcome.manifest
        shown = one.statistics.get("entity_shown", 0.0) + one.statistics.get("context_shown", 0.0)
        holds = one.statistics.get("entity_holds_gold", 0.0)
        state = "was there" if outcome.reused else "built"
        sizes = one.rows["context"], one.rows["entity"]
        rows.append([one.language, one.corpus, one.digest, *sizes, shown, holds, state])
    print_table(columns, rows)
