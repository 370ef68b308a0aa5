"""What a training run reads, named so that its digest decides whether it must run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from retrieveall.corpus.limits import limited
from retrieveall.corpus.manifest import CorpusManifest
from retrieveall.digests import digest_json
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.errors import InputError, NotFoundError
from retrieveall.frozen import to_dict
from retrieveall.lora.card import Strategy
from retrieveall.prompting.codec import PROMPT_FORMAT
from retrieveall.retrieval import (
    M_MAX,
    N_MAX,
    IndexManifest,
    LanguageIndex,
    TrainingNeighbours,
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
        examples: Train with retrieved examples in the prompts.
        train_limit: Training sentences per language, drawn at random; None for all.
        dev_limit: Dev sentences on which the card's F1 is measured.
    """

    base_model: str
    base_digest: str
    config: AdapterTrainingConfig
    corpus: str | None = None
    languages: tuple[str, ...] | None = None
    strategy: Strategy = "monolingual"
    examples: bool = True
    threshold_std: float = 1.0
    train_limit: int | None = None
    dev_limit: int = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """Everything that decides one adapter's weights; its digest names the run's folder."""

    language: str
    train_languages: tuple[str, ...]
    strategy: Strategy
    corpus: str
    corpus_digest: str
    labels: tuple[str, ...]
    base_model: str
    base_digest: str
    config: AdapterTrainingConfig
    examples: bool
    index_digest: str | None
    embedder: str | None
    embedder_digest: str | None
    threshold_std: float
    train_limit: int | None
    dev_limit: int
    synthetic: bool
    licence: str = ""
    continues: str | None = None
    initial_adapter: str | None = None
    workers: int = 1  # they share every step's rows, so their number decides the weights too
    prompt_format: str = field(default=PROMPT_FORMAT)
    recipe: str = field(default=RECIPE)

    @property
    def run_name(self) -> str:
        """Language and digest, such as ``nl-0f3c…``. The base counts by digest, not by name."""
        return f"{self.language}-{digest_json(to_dict(replace(self, base_model='')))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingInputs:
    """The splits of one run.

    Attributes:
        measured: The dev sentences of the card's F1.
    """

    train: SplitInput
    dev: SplitInput
    measured: SplitInput


def plan_specs(workspace: Workspace, choice: TrainingChoice) -> list[list[RunSpec]]:
    """Turns a choice into the runs of each stage.

    Raises:
        NotFoundError: A corpus is missing, or examples are wanted and an index is.
        InputError: A language has several corpora and none was named.
        ConfigError: The strategy is unknown.
    """
    keys = workspace.corpora.resolve(choice.corpus, choice.languages)
    names = {key.language: key.name for key in keys}
    stages = strategy_named(choice.strategy).stages(sorted(names))
    return [[_spec(workspace, choice, plan, names) for plan in stage] for stage in stages]


def _spec(workspace: Workspace, choice: TrainingChoice, plan: AdapterPlan, names: dict[str, str]) -> RunSpec:
    manifests = [workspace.corpora.manifest(names[code], code) for code in plan.train_languages]
    manifest = manifests[0]
    index = _index_of(workspace, manifest, needed=choice.examples)
    return RunSpec(
        language=plan.language,
        train_languages=plan.train_languages,
        strategy=choice.strategy,
        corpus=manifest.name,
        corpus_digest=manifest.digest,
        labels=manifest.labels,
        base_model=choice.base_model,
        base_digest=choice.base_digest,
        config=choice.config,
        examples=choice.examples,
        index_digest=index.digest if index else None,
        embedder=str(index.embedder["name"]) if index else None,
        embedder_digest=index.embedder_digest if index else None,
        threshold_std=choice.threshold_std,
        train_limit=choice.train_limit,
        dev_limit=choice.dev_limit,
        synthetic=manifest.synthetic,
        continues=plan.continues,
    )


def _index_of(workspace: Workspace, manifest: CorpusManifest, *, needed: bool) -> IndexManifest | None:
    """Finds the index over a corpus, of the embedder last used where there are several.

    An adapter trained without examples is published with it all the same: it may be tagged with both ways.

    Raises:
        NotFoundError: None is there and one is needed.
    """
    preferred = workspace.state().embedder
    found = [
        index
        for index in list_indexes(workspace.indexes, manifest.language)
        if index.corpus_digest == manifest.digest
    ]
    found.sort(key=lambda index: (index.embedder["name"] != preferred, index.digest))
    if not found and needed:
        raise NotFoundError(
            f"There is no index over corpus {manifest.name!r} for {manifest.language!r}. Build it:"
            f" `retrieveall index --corpus {manifest.name} --languages {manifest.language}`,"
            " or train with `--examples off`."
        )
    return found[0] if found else None


def load_inputs(workspace: Workspace, spec: RunSpec) -> TrainingInputs:
    """Reads the splits of a run, with the examples of every sentence.

    Raises:
        InputError: The corpus has no training sentences.
    """
    train = _read(workspace, spec, "train", limit=spec.train_limit)
    if not train.sentences:
        raise InputError(
            f"Corpus {spec.corpus!r} has no training sentences for {spec.language!r}."
            " Import a train split: `retrieveall corpus import`."
        )
    dev = _read(workspace, spec, "dev", limit=max(spec.dev_limit, spec.config.dev_rows))
    measured = SplitInput(
        sentences=dev.sentences[: spec.dev_limit],
        detokenised=dev.detokenised[: spec.dev_limit],
        examples=dev.examples[: spec.dev_limit],
    )
    return TrainingInputs(train=train, dev=dev, measured=measured)


def _read(workspace: Workspace, spec: RunSpec, split: Split, *, limit: int | None) -> SplitInput:
    language = spec.train_languages[0]
    store = workspace.corpora
    sentences = store.load(spec.corpus, language, split)
    prose = store.load(spec.corpus, language, split, "detokenised")
    chosen = limited(len(sentences), limit)
    kept = [sentences[i] for i in chosen]
    return SplitInput(
        sentences=kept,
        detokenised=[prose[i] for i in chosen],
        examples=_examples(workspace, spec, kept, split),
    )


def _examples(
    workspace: Workspace, spec: RunSpec, sentences: Sequence[Sentence], split: Split
) -> list[Examples]:
    """The stored neighbours of training sentences; a search, as in tagging, for the others.

    A few more than a prompt shows are kept, so that the next ones stand in for those dropped at random.
    """
    if not spec.examples or spec.index_digest is None:
        return [Examples()] * len(sentences)
    manifest = read_manifest(workspace.indexes, spec.train_languages[0], spec.index_digest)
    embedder = load_embedder(EmbedderSpec.from_dict(manifest.embedder))
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
