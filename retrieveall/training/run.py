"""Adapters from corpus rows to measured PEFT folders. The Ray job is a thin shell over this.

`AdapterTask` is what a run reads, `train_pack` the whole run of one adapter or of several over one base,
`measure_dev` the strict dev F1 through the tagger's own generator, so that the card promises what the
service will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch

from retrieveall.engine.passes import pass_cost
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import RetrieveAllError
from retrieveall.evaluation.bootstrap import f1_of_counts
from retrieveall.evaluation.score import Score
from retrieveall.evaluation.strict import count_strict
from retrieveall.generation import GenerationTask, Generator
from retrieveall.lora.card import DevScores
from retrieveall.models.base import base_folder, open_base
from retrieveall.models.dtypes import DTYPES, default_dtype
from retrieveall.prompting.hierarchical import DEFAULT_BUDGET_TOKENS
from retrieveall.training.adapter import AdapterTraining, AdapterTrainingConfig
from retrieveall.training.data import TrainingRow
from retrieveall.training.pack import Pack, PackStep
from retrieveall.training.shared import SharedBase
from retrieveall.types import Entity, Examples, Sentence

PRIOR_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The powers of the prior that an adapter may be tried with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitInput:
    """One split of one adapter's training data.

    Attributes:
        sentences: S sentences as the corpus holds them.
        detokenised: The same S sentences as people write them.
        examples: What retrieval found for each, strongest first; empty ones train without examples.
    """

    sentences: Sequence[Sentence]
    detokenised: Sequence[Sentence]
    examples: Sequence[Examples]

    def first(self, count: int) -> SplitInput:
        """Returns the first sentences alone."""
        return SplitInput(
            sentences=self.sentences[:count],
            detokenised=self.detokenised[:count],
            examples=self.examples[:count],
        )

    def rows(self) -> list[TrainingRow]:
        """Returns S training rows."""
        return [
            TrainingRow(sentence=sentence, detokenised=prose, examples=examples)
            for sentence, prose, examples in zip(self.sentences, self.detokenised, self.examples, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterTask:
    """One adapter that is to be trained.

    Attributes:
        train: Training split.
        dev: Dev split, for early stopping.
        labels: Labels the adapter may emit.
        config: The recipe.
        initial: Adapter folder to continue.
    """

    train: SplitInput
    dev: SplitInput
    labels: Sequence[str]
    config: AdapterTrainingConfig
    initial: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A training that is done.

    Attributes:
        folder: The adapter, in PEFT format.
        tokens: Prompt and target tokens that it saw.
    """

    folder: Path
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A trained adapter that is to be measured.

    Attributes:
        adapter: PEFT folder.
        dev: The sentences and their examples, by language.
        labels: Labels the adapter may emit.
    """

    adapter: Path
    dev: Mapping[str, SplitInput]
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Where a run computes.

    Attributes:
        name: ``cpu`` or ``cuda``.
        threads: Threads of torch on a CPU, set on purpose.
    """

    name: str = "cpu"
    threads: int = 1

    @property
    def dtype(self) -> str:
        """What the base computes in, in answering and, where a recipe says nothing else, in training."""
        return default_dtype(self.name)

    @property
    def pass_tokens(self) -> int:
        """Padded tokens of one training pass that keep it busy."""
        return 16_384 if self.name == "cuda" else 2048

    @property
    def pass_cost(self) -> int:
        """As many tokens as one more pass costs."""
        return pass_cost(self.name, self.pass_tokens)


def train_pack(
    base_model: str,
    tasks: Mapping[str, AdapterTask],
    target: Path,
    *,
    device: Device,
    on_step: Callable[[Pack, PackStep], None],
    resume: Path | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, Trained | RetrieveAllError]:
    """Trains one adapter, or several at once over one base, and writes them in PEFT format.

    Args:
        base_model: Name of the base.
        tasks: By name.
        target: Gets one folder per name (written by rank 0 alone).
        device: Where to compute.
        on_step: Called after every step; saves the pack when ``step.save``.
        resume: Folder of a save to go on from.
        rank: This worker's number.
        world_size: Number of workers that share every adapter's batches.

    Returns:
        Per name the trained adapter, or why it could not be trained; the others are.
    """
    torch.set_num_threads(device.threads)
    dtype = _one_dtype(tasks.values()) or device.dtype
    base = open_base(base_model, dtype=DTYPES[dtype], device=device.name)
    shared = SharedBase(
        base.model,
        base.codec,
        pad_id=base.pad_id,
        pass_tokens=device.pass_tokens,
        pass_cost=device.pass_cost,
    )
    begun = {name: _begun(shared, task, rank, world_size) for name, task in tasks.items()}
    trainings = {name: one for name, one in begun.items() if isinstance(one, AdapterTraining)}
    if trainings:
        pack = Pack(shared, trainings)
        if resume is not None:
            pack.load(resume)
        for step in pack.run():
            on_step(pack, step)
    if rank == 0:
        for name, training in trainings.items():
            training.adapter.save(target / name)
    return {
        name: Trained(folder=target / name, tokens=one.tokens) if isinstance(one, AdapterTraining) else one
        for name, one in begun.items()
    }


def _one_dtype(tasks: Iterable[AdapterTask]) -> str | None:
    """Returns the data type that all tasks of a pack ask for, as they share a base; None where none asks."""
    asked = {task.config.dtype for task in tasks}
    assert len(asked) < 2, f"a pack of several data types: {asked}"
    return next(iter(asked), None)


def _begun(
    base: SharedBase, task: AdapterTask, rank: int, world_size: int
) -> AdapterTraining | RetrieveAllError:
    try:
        return AdapterTraining(
            base,
            labels=task.labels,
            train=task.train.rows(),
            dev=task.dev.rows(),
            config=task.config,
            rank=rank,
            world_size=world_size,
            initial=task.initial,
        )
    except RetrieveAllError as error:
        return error.with_traceback(None)  # which would keep the base in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Dev scores of an adapter.

    Attributes:
        overall: On the sentences of all its languages; None where there are none.
        by_language: Of single languages, where there are several.
        prior_weights: By language, the power of the prior with which the scores were reached, where above 0.
    """

    overall: DevScores | None = None
    by_language: Mapping[str, DevScores] = field(default_factory=dict)
    prior_weights: Mapping[str, float] = field(default_factory=dict)


def measure_dev(
    base_model: str,
    candidates: Mapping[str, Candidate],
    *,
    device: Device,
    budget_tokens: int = DEFAULT_BUDGET_TOKENS,
    seed: int = 0,
) -> dict[str, Measured | Exception]:
    """Measures the strict F1 of adapters, each on its own dev sentences, with one engine.

    Where the examples hold what a prior says, its power is chosen by language among `PRIOR_WEIGHTS`: from 1
    on upwards while that is better on these sentences, else downwards while it is no worse. Source: own
    choice.

    Args:
        base_model: Name of the base.
        candidates: By name.
        device: Where to compute.
        budget_tokens: Longest prompt, as in training.
        seed: Of the bootstrap interval.

    Returns:
        Per name the scores, or what kept it from tagging its sentences.
    """
    if not any(split.sentences for candidate in candidates.values() for split in candidate.dev.values()):
        return {name: Measured() for name in candidates}
    settings = EngineConfig(
        base_model=base_folder(base_model),
        dtype=device.dtype,
        device=device.name,
        threads=device.threads,
    )
    engine = TransformersEngine(settings, lambda name: candidates[name].adapter)
    generator = Generator(engine, engine.codec, budget_tokens=budget_tokens)
    try:
        return {name: _measured(generator, name, one, seed) for name, one in candidates.items()}
    finally:
        engine.close()


def _measured(generator: Generator, name: str, candidate: Candidate, seed: int) -> Measured | Exception:
    gold: list[Sentence] = []
    found: list[tuple[Entity, ...]] = []
    by_language: dict[str, DevScores] = {}
    weights: dict[str, float] = {}
    tagging = _DevTagging(generator, name, candidate.labels)
    for language, dev in candidate.dev.items():
        try:
            weight, own = tagging.best(dev)
        except Exception as error:  # a broken adapter fails its own rows and nobody else's
            return error
        if weight:
            weights[language] = weight
        if own:
            by_language[language] = _scores(dev.sentences, own, seed)
        gold += dev.sentences
        found += own
    if not gold:
        return Measured()
    overall = _scores(gold, found, seed)
    by_language = by_language if len(candidate.dev) > 1 else {}
    return Measured(overall=overall, by_language=by_language, prior_weights=weights)


class _Tried(NamedTuple):
    """What a power of the prior finds, and how good that is."""

    weight: float
    found: list[tuple[Entity, ...]]
    f1: float


@dataclass(frozen=True, slots=True)
class _DevTagging:
    """Tags dev sentences with one adapter."""

    generator: Generator
    adapter: str
    labels: Sequence[str]

    def best(self, dev: SplitInput) -> tuple[float, list[tuple[Entity, ...]]]:
        """Returns the power of the prior that is best, 0 without a prior, and the entities found with it."""
        if not any(examples.prior for examples in dev.examples):
            return 0.0, self.tag(dev, 0.0)
        middle = PRIOR_WEIGHTS.index(1.0)
        first = best = self.tried(dev, 1.0)
        for weight in PRIOR_WEIGHTS[middle + 1 :]:
            other = self.tried(dev, weight)
            if other.f1 <= best.f1:
                break
            best = other
        for weight in reversed(PRIOR_WEIGHTS[:middle]) if best is first else ():
            other = self.tried(dev, weight)
            if other.f1 < best.f1:
                break
            best = other
        return best.weight, best.found

    def tried(self, dev: SplitInput, weight: float) -> _Tried:
        """Tags sentences with a power of the prior and scores them."""
        found = self.tag(dev, weight)
        return _Tried(weight, found, _f1(dev.sentences, found))

    def tag(self, dev: SplitInput, weight: float) -> list[tuple[Entity, ...]]:
        """Returns the entities of sentences, with a power of the prior."""
        tasks = [
            GenerationTask(
                text=sentence.text,
                labels=tuple(self.labels),
                adapters=((self.adapter, 1.0),),
                examples=_weighted(examples, weight),
            )
            for sentence, examples in zip(dev.sentences, dev.examples, strict=True)
        ]
        return [answer.entities for answer in self.generator.generate(tasks)]


def _f1(gold: Sequence[Sentence], found: Sequence[tuple[Entity, ...]]) -> float:
    return float(f1_of_counts(count_strict(gold, found).per_sentence.sum(axis=0)))


def _weighted(examples: Examples, weight: float) -> Examples:
    said = examples.prior
    return replace(examples, prior=replace(said, weight=weight) if said is not None and weight else None)


def _scores(gold: Sequence[Sentence], found: Sequence[tuple[Entity, ...]], seed: int) -> DevScores:
    score = Score.of(count_strict(gold, found).per_sentence, seed=seed)
    return DevScores(f1=score.f1, f1_low=score.f1_low, f1_high=score.f1_high, sentences=len(gold))
