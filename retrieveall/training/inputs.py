"""What a training run reads, named so that its digest decides whether it must run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from retrieveall.corpus.limits import limited
from retrieveall.digests import digest_json
from retrieveall.embedding.protocol import Embedder
from retrieveall.embedding.spec import EmbedderSpec, load_embedder
from retrieveall.errors import InputError
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
    read_manifest,
)
from retrieveall.training.adapter import RECIPE, AdapterTrainingConfig
from retrieveall.training.run import SplitInput
from retrieveall.types import Examples, Sentence, Split
from retrieveall.workspace import Workspace

_SPARE_EXAMPLES = 2


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
        if not self.examples and any(data.index for data in self.data.values()):
            values["has_prior"] = True  # once only runs with examples had one
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
        measured=_measured(workspace, spec, dev),
    )


def load_measured(workspace: Workspace, spec: RunSpec, *, prior: bool = True) -> dict[str, SplitInput]:
    """Reads the dev sentences of a run's scores alone, by language.

    Args:
        workspace: Where everything is.
        spec: The run.
        prior: Add what the languages' priors say.
    """
    dev = _dev(workspace, spec)
    if prior:
        return _measured(workspace, spec, dev)
    return {code: split.first(spec.dev_limit) for code, split in dev.items()}


def _measured(workspace: Workspace, spec: RunSpec, dev: Mapping[str, SplitInput]) -> dict[str, SplitInput]:
    return {
        code: _with_prior(workspace, spec, code, split.first(spec.dev_limit)) for code, split in dev.items()
    }


def _with_prior(workspace: Workspace, spec: RunSpec, language: str, split: SplitInput) -> SplitInput:
    """Adds what the prior of a language's index says; nothing where there is no index."""
    digest = spec.data[language].index
    if digest is None or not split.sentences:
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
