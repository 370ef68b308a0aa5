"""What a training run reads, named so that its digest decides whether it must run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from retrieveall.config import Settings, configured
from retrieveall.corpus.limits import limited
from retrieveall.corpus.manifest import CorpusManifest
from retrieveall.digests import digest_json
from retrieveall.embedding.protocol import Embedder
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.frozen import to_dict
from retrieveall.lora.card import LanguageData, StrategyName
from retrieveall.prior_weights import PriorChoice, open_priors
from retrieveall.prompting.codec import PROMPT_FORMAT
from retrieveall.retrieval import (
    M_MAX,
    N_MAX,
    IndexManifest,
    LanguageIndex,
    TrainingNeighbours,
    corpus_parts,
    list_indexes,
    read_manifest,
)
from retrieveall.training.adapter import RECIPE, AdapterTrainingConfig
from retrieveall.training.run import SplitInput
from retrieveall.training.strategies import AdapterPlan, strategy_named
from retrieveall.types import Examples, Sentence, Split
from retrieveall.workspace import Workspace

_SPARE_EXAMPLES = 2


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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """Everything that decides one adapter's weights; its digest names the run's folder.

    Attributes:
        language: Whose adapter it will be; ``mul`` for one of several languages.
        data: By language, what it is trained on and what it is measured on.
        train_languages: Whose training splits it sees.
        serves: Languages that it is published for; they do not change it.
        prior_indexes: By language, the indexes that its languages' priors share (see `AdapterCard`). They
            decide the weights of the priors, not the adapter's, and so are no part of the digest: a language
            that comes later leaves the others' runs as they are.
        labels: All labels of the corpora that it is trained on.
        continues: Name of the run whose adapter it starts from.
        initial_adapter: That adapter, once there is one.
    """

    language: str
    data: Mapping[str, LanguageData]
    train_languages: tuple[str, ...]
    strategy: StrategyName
    labels: tuple[str, ...]
    base_model: str
    base_digest: str
    config: AdapterTrainingConfig
    examples: bool
    embedder: str | None
    embedder_digest: str | None
    threshold_std: float
    train_limit: int | None
    dev_limit: int
    synthetic: bool
    serves: tuple[str, ...] = ()
    prior_indexes: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    continues: str | None = None
    initial_adapter: str | None = None
    workers: int = 1  # they share every step's rows, so their number decides the weights too
    prompt_format: str = field(default=PROMPT_FORMAT)
    recipe: str = field(default=RECIPE)

    @property
    def run_name(self) -> str:
        """Language and digest, such as ``nl-0f3c…``. The base counts by digest, not by name."""
        values = to_dict(replace(self, base_model="", serves=()))
        del values["prior_indexes"]
        return f"{self.language}-{digest_json(values)}"

    @property
    def title(self) -> str:
        """What people call the run: its language, or all that a polyglot one is made of."""
        several = len(self.train_languages) > 1
        return f"{self.language} ({' '.join(self.train_languages)})" if several else self.language


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingInputs:
    """The splits of one run, those of several languages in turn: one sentence of each, and again.

    Attributes:
        measured: The dev sentences of the card's F1, by language, with what their priors say.
    """

    train: SplitInput
    dev: SplitInput
    measured: Mapping[str, SplitInput]


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
        return {code: index for code, (index, of) in self._indexed.items() if of == labels}

    @cached_property
    def _indexed(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Index and labels of the languages that have an index."""
        workspace, found = self._workspace, {}
        for code, entry in workspace.releases.current().languages.items():
            if entry.index is not None:
                part = corpus_parts({code: read_manifest(workspace.indexes, code, entry.index)})[code]
                found[code] = (part, tuple(sorted(workspace.pool.get(entry.adapter).card.labels)))
        for code, name in self._names.items():
            manifest = workspace.corpora.manifest(name, code)
            index = _index_of(workspace, manifest, self._choice.embedder, needed=False)
            found.pop(code, None)
            if index is not None:
                found[code] = (index.digest, tuple(sorted(manifest.labels)))
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

    An adapter trained without examples is published with it all the same: it may be tagged with both ways.

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


def load_inputs(workspace: Workspace, spec: RunSpec) -> TrainingInputs:
    """Reads the splits of a run, with the examples of every sentence.

    Raises:
        InputError: A corpus has no training sentences.
    """
    train = {code: _read(workspace, spec, code, "train", spec.train_limit) for code in spec.train_languages}
    for code, split in train.items():
        if not split.sentences:
            raise InputError(
                f"Corpus {spec.data[code].corpus!r} has no training sentences for {code!r}."
                " Import a train split: `retrieveall corpus import`."
            )
    dev = _dev(workspace, spec)
    return TrainingInputs(
        train=_in_turn(list(train.values())),
        dev=_in_turn([dev[code] for code in spec.train_languages]),
        measured={
            code: _with_prior(workspace, spec, code, split.first(spec.dev_limit))
            for code, split in dev.items()
        },
    )


def load_measured(workspace: Workspace, spec: RunSpec) -> dict[str, SplitInput]:
    """Reads the dev sentences of a run's scores alone, by language."""
    return {code: split.first(spec.dev_limit) for code, split in _dev(workspace, spec).items()}


def _with_prior(workspace: Workspace, spec: RunSpec, language: str, split: SplitInput) -> SplitInput:
    """Adds what the prior of a language's index says; nothing where there are no examples."""
    digest = spec.data[language].index
    if not spec.examples or digest is None or not split.sentences:
        return split
    choice = PriorChoice(index=digest, weight=1.0, shared=spec.prior_indexes)
    priors = open_priors(workspace, {language: choice})
    if language not in priors:
        return split
    scores = priors[language].prior.score([sentence.text for sentence in split.sentences])
    said = [replace(one, prior=score) for one, score in zip(split.examples, scores, strict=True)]
    return replace(split, examples=said)


def _opened(workspace: Workspace, language: str, digest: str) -> tuple[IndexManifest, Embedder]:
    """Returns an index's manifest and embedder."""
    manifest = read_manifest(workspace.indexes, language, digest)
    return manifest, load_embedder(EmbedderSpec.from_dict(manifest.embedder))


def _dev(workspace: Workspace, spec: RunSpec) -> dict[str, SplitInput]:
    limit = max(spec.dev_limit, spec.config.dev_rows)
    return {code: _read(workspace, spec, code, "dev", limit) for code in spec.data}


def _in_turn(splits: Sequence[SplitInput]) -> SplitInput:
    """The first of each, then the second of each, so that any beginning is a fair share of all."""
    sizes = [len(split.sentences) for split in splits]
    order = [(number, row) for row in range(max(sizes)) for number, size in enumerate(sizes) if row < size]
    return SplitInput(
        sentences=[splits[number].sentences[row] for number, row in order],
        detokenised=[splits[number].detokenised[row] for number, row in order],
        examples=[splits[number].examples[row] for number, row in order],
    )


def _read(workspace: Workspace, spec: RunSpec, language: str, split: Split, limit: int | None) -> SplitInput:
    store, corpus = workspace.corpora, spec.data[language].corpus
    sentences = store.load(corpus, language, split)
    prose = store.load(corpus, language, split, "detokenised")
    chosen = limited(len(sentences), limit)
    kept = [sentences[i] for i in chosen]
    return SplitInput(
        sentences=kept,
        detokenised=[prose[i] for i in chosen],
        examples=_examples(workspace, spec, language, kept, split),
    )


def _examples(
    workspace: Workspace, spec: RunSpec, language: str, sentences: Sequence[Sentence], split: Split
) -> list[Examples]:
    """The stored neighbours of training sentences; a search, as in tagging, for the others.

    A few more than a prompt shows are kept, so that the next ones stand in for those dropped at random.
    """
    digest = spec.data[language].index
    if not spec.examples or digest is None:
        return [Examples()] * len(sentences)
    manifest, embedder = _opened(workspace, language, digest)
    index = LanguageIndex.open(workspace.indexes, manifest, embedder)
    render = spec.config.render
    n, m = render.entity_examples, render.context_examples
    if split != "train":
        texts = [sentence.text for sentence in sentences]
        return index.examples(texts, n=n, m=m, threshold_lambda=spec.threshold_std)
    neighbours = TrainingNeighbours.open(workspace.indexes, manifest, index)
    return [
        neighbours.examples_for(
            sentence.id,
            n=min(n + _SPARE_EXAMPLES * (n > 0), N_MAX),
            m=min(m + _SPARE_EXAMPLES * (m > 0), M_MAX),
            threshold_lambda=spec.threshold_std,
        )
        for sentence in sentences
    ]
