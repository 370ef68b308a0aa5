"""One adapter from corpus rows to a measured PEFT folder. The Ray job is a thin shell over this.

`TrainingInput` is what a run reads, `train_adapter` the whole run, `measure_dev` the strict dev F1
through the tagger's own generator, so that the card promises what the service will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.evaluation.language import evaluate
from retrieveall.generation import GenerationTask, Generator
from retrieveall.lora.card import DevScores
from retrieveall.models.base import base_folder, open_base
from retrieveall.prompting.hierarchical import DEFAULT_BUDGET_TOKENS
from retrieveall.training.adapter import AdapterTraining, AdapterTrainingConfig, Progress
from retrieveall.training.data import TrainingRow
from retrieveall.types import Examples, Sentence


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

    def rows(self) -> list[TrainingRow]:
        """Returns S training rows."""
        return [
            TrainingRow(sentence=sentence, detokenised=prose, examples=examples)
            for sentence, prose, examples in zip(self.sentences, self.detokenised, self.examples, strict=True)
        ]


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
    def dtype(self) -> torch.dtype:
        """bfloat16 on a GPU, float32 on a CPU, where bfloat16 is emulated on most machines."""
        return torch.bfloat16 if self.name == "cuda" else torch.float32


def train_adapter(
    base_model: str,
    train: SplitInput,
    dev: SplitInput,
    labels: Sequence[str],
    config: AdapterTrainingConfig,
    target: Path,
    *,
    device: Device,
    on_progress: Callable[[AdapterTraining, Progress], None],
    resume: Path | None = None,
    initial: Path | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> AdapterTraining:
    """Trains one adapter and writes it to ``target`` in PEFT format.

    Args:
        base_model: Name of the base.
        train: Training split.
        dev: Dev split, for early stopping.
        labels: Labels the adapter may emit.
        config: The recipe.
        target: Folder for the finished adapter (written by rank 0 alone).
        device: Where to compute.
        on_progress: Called after every optimiser step; saves when ``progress.save``.
        resume: Folder of a save to go on from.
        initial: Adapter folder to continue.
        rank: This worker's number.
        world_size: Number of workers of this adapter.

    Raises:
        InputError: No training sentence fits the prompt budget.
    """
    torch.set_num_threads(device.threads)
    base = open_base(base_model, dtype=device.dtype, device=device.name)
    training = AdapterTraining(
        base.model,
        base.codec,
        pad_id=base.pad_id,
        labels=labels,
        train=train.rows(),
        dev=dev.rows(),
        config=config,
        rank=rank,
        world_size=world_size,
        initial=initial,
    )
    if resume is not None:
        training.load(resume)
    for progress in training.run():
        on_progress(training, progress)
    if rank == 0:
        training.save_adapter(target)
    return training


def measure_dev(
    base_model: str,
    adapter: Path,
    dev: SplitInput,
    labels: Sequence[str],
    *,
    device: Device,
    budget_tokens: int = DEFAULT_BUDGET_TOKENS,
    seed: int = 0,
) -> DevScores | None:
    """Measures the strict F1 of an adapter on dev sentences, None where there are none.

    Args:
        base_model: Name of the base.
        adapter: PEFT folder.
        dev: The sentences and their examples.
        labels: Labels the adapter may emit.
        device: Where to compute.
        budget_tokens: Longest prompt, as in training.
        seed: Of the bootstrap interval.
    """
    if not dev.sentences:
        return None
    dtype = str(device.dtype).removeprefix("torch.")
    settings = EngineConfig(
        base_model=base_folder(base_model), dtype=dtype, device=device.name, threads=device.threads
    )
    engine = TransformersEngine(settings, lambda _: adapter)
    try:
        tasks = [
            GenerationTask(text=s.text, labels=tuple(labels), adapters=(("candidate", 1.0),), examples=e)
            for s, e in zip(dev.sentences, dev.examples, strict=True)
        ]
        answers = Generator(engine, engine.codec, budget_tokens=budget_tokens).generate(tasks)
    finally:
        engine.close()
    score = evaluate(dev.sentences, [a.entities for a in answers], seed=seed).scores["strict"]
    return DevScores(f1=score.f1, f1_low=score.f1_low, f1_high=score.f1_high, sentences=len(dev.sentences))
