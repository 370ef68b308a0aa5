"""From what a user chose to the training runs of each stage.

A `TrainingChoice` and the workspace's corpora, indexes and releases give the `RunSpec` of every adapter that
the strategy makes (see strategies.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retrieveall.config import Settings, configured
from retrieveall.corpus.manifest import CorpusManifest
from retrieveall.errors import IncompatibleArtefactError, NotFoundError
from retrieveall.lora.card import LanguageData, StrategyName
from retrieveall.retrieval import IndexManifest, list_indexes
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.inputs import RunSpec
from retrieveall.training.sharing import SharedIndex, published_indexes
from retrieveall.training.strategies import AdapterPlan, strategy_named
from retrieveall.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingChoice:
    """What the user chose for a training of several languages.

    Attributes:
        corpus: Name of the corpus; None where each language has only one.
        languages: None means all that are there.
        shots: Sentences of the language that strategy ``leave_language_out`` leaves out; None for all.
        examples: Train with retrieved examples in the prompts.
        embedder: Whose indexes are used, such as ``ngram`` or ``lm``; None for the one last used.
        train_limit: Training sentences per language, drawn at random; None for all.
        dev_limit: Dev sentences per language on which the card's F1 is measured.
        workers: Data-parallel workers of one adapter.
        shares_with_published: Priors also learn from published languages that are not chosen.
    """

    base_model: str
    base_digest: str
    config: AdapterTrainingConfig
    corpus: str | None = None
    languages: tuple[str, ...] | None = None
    strategy: StrategyName = "monolingual"
    shots: int | None = None
    examples: bool = True
    embedder: str | None = None
    threshold_std: float = 1.0
    train_limit: int | None = None
    dev_limit: int = 500
    workers: int = 1
    shares_with_published: bool = True


def training_config(
    settings: Settings, recipe: Mapping[str, Any], render: Mapping[str, Any] | None = None
) -> AdapterTrainingConfig:
    """Returns the recipe: its defaults, changed by the workspace's settings, changed by what is given.

    Args:
        settings: The workspace's.
        recipe: Fields of `AdapterTrainingConfig` but ``render``.
        render: Fields of its `RenderConfig`.

    Raises:
        ConfigError: A field is unknown or does not fit.
    """
    stored = dict(settings.training)
    prompt = settings.prompt
    shown = {
        "entity_examples": prompt.entity_examples,
        "context_examples": prompt.context_examples,
        "budget_tokens": prompt.budget_tokens,
        **stored.pop("render", {}),
        **(render or {}),
    }
    source = "settings of training"
    return configured(AdapterTrainingConfig, stored, source=source, render=shown, **recipe)


def plan_specs(workspace: Workspace, choice: TrainingChoice) -> list[list[RunSpec]]:
    """Turns a choice into the runs of each stage.

    Raises:
        NotFoundError: A corpus is missing, or examples are wanted and an index is.
        InputError: A language has several corpora and none was named, or the strategy needs more languages.
        ConfigError: The strategy is unknown, or it takes no shots.
        IncompatibleArtefactError: The indexes of a polyglot adapter are of several embedders.
    """
    strategy = strategy_named(choice.strategy, shots=choice.shots)
    keys = workspace.corpora.resolve(choice.corpus, choice.languages)
    names = {key.language: key.name for key in keys}
    planner = _Planner(workspace, choice, names)
    return [[planner.spec(plan) for plan in stage] for stage in strategy.stages(sorted(names))]


class _Planner:
    """Makes the runs of plans; asked for an earlier stage's plan, it gives the run made before."""

    def __init__(self, workspace: Workspace, choice: TrainingChoice, names: Mapping[str, str]) -> None:
        self._workspace, self._choice, self._names = workspace, choice, names
        self._specs: dict[AdapterPlan, RunSpec] = {}

    def spec(self, plan: AdapterPlan) -> RunSpec:
        """Returns the run of a plan."""
        if plan not in self._specs:
            self._specs[plan] = self._made(plan)
        return self._specs[plan]

    def _made(self, plan: AdapterPlan) -> RunSpec:
        choice = self._choice
        manifests = {
            code: self._workspace.corpora.manifest(self._names[code], code) for code in plan.measured_on
        }
        indexes = {
            code: _index_of(self._workspace, manifest, choice.embedder, needed=choice.examples)
            for code, manifest in manifests.items()
        }
        embedder = _shared_embedder([index for index in indexes.values() if index is not None])
        trained = [manifests[code] for code in plan.train_languages]
        labels = tuple(sorted({label for manifest in trained for label in manifest.labels}))
        return RunSpec(
            language=plan.language,
            data={
                code: LanguageData(
                    corpus=manifest.name,
                    corpus_digest=manifest.digest,
                    index=index.digest if (index := indexes[code]) else None,
                )
                for code, manifest in manifests.items()
            },
            train_languages=plan.train_languages,
            strategy=choice.strategy,
            labels=labels,
            base_model=choice.base_model,
            base_digest=choice.base_digest,
            config=plan.recipe(choice.config),
            examples=choice.examples,
            embedder=str(embedder.embedder["name"]) if embedder else None,
            embedder_digest=embedder.embedder_digest if embedder else None,
            threshold_std=choice.threshold_std,
            train_limit=_least(choice.train_limit, plan.shots),
            dev_limit=choice.dev_limit,
            synthetic=any(manifest.synthetic for manifest in trained),
            serves=plan.serves,
            prior_indexes=self._sharing(labels),
            continues=self.spec(plan.continues).run_name if plan.continues else None,
            workers=choice.workers,
        )

    def _sharing(self, labels: tuple[str, ...]) -> dict[str, str]:
        """Returns by language the indexes whose priors share what they learn: those with the same labels.

        They are of the languages that are trained together, and of those already published.
        """
        return {code: one.digest for code, one in self._indexed.items() if one.labels == labels}

    @cached_property
    def _indexed(self) -> dict[str, SharedIndex]:
        """Index and its corpus's labels, of the languages that have an index."""
        workspace, found = self._workspace, {}
        for code, name in self._names.items():
            manifest = workspace.corpora.manifest(name, code)
            index = _index_of(workspace, manifest, self._choice.embedder, needed=False)
            if index is not None:
                found[code] = SharedIndex(digest=index.digest, labels=manifest.labels)
        if self._choice.shares_with_published:
            found |= published_indexes(workspace, without=self._names)
        return dict(sorted(found.items()))


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _shared_embedder(indexes: Sequence[IndexManifest]) -> IndexManifest | None:
    """Returns one of the indexes, which are all of one embedder, or None where there are none."""
    digests = {index.embedder_digest for index in indexes}
    if len(digests) > 1:
        listed = ", ".join(f"{index.language} {index.embedder['name']}" for index in indexes)
        raise IncompatibleArtefactError(
            f"The indexes of a polyglot adapter were made by {len(digests)} embedders: {listed}."
            " Build all of them with one: `retrieveall index --embedder`."
        )
    return indexes[0] if indexes else None


def _index_of(
    workspace: Workspace, manifest: CorpusManifest, embedder: str | None, *, needed: bool
) -> IndexManifest | None:
    """Finds the index over a corpus: of an embedder, or of the one last used where there are several.

    An adapter trained without examples is published with it all the same: its prior learns from it.

    Raises:
        NotFoundError: None is there and one is needed.
    """
    preferred = workspace.state().embedder
    found = [
        index
        for index in list_indexes(workspace.indexes, manifest.language)
        if index.corpus_digest == manifest.digest and embedder in (None, index.embedder["name"])
    ]
    found.sort(key=lambda index: (index.embedder["name"] != preferred, index.digest))
    if not found and needed:
        raise NotFoundError(
            f"There is no index over corpus {manifest.name!r} for {manifest.language!r}"
            f"{f' by {embedder}' if embedder else ''}. Build it: `retrieveall index --corpus {manifest.name}"
            f" --languages {manifest.language}{f' --embedder {embedder}' if embedder else ''}`,"
            " or train with `--examples off`."
        )
    return found[0] if found else None
