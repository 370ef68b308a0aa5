"""Training of one LoRA adapter: its batches, schedule, early stopping and saves. A plain class, no Ray.

Forward and backward passes are `retrieveall.training.shared`'s, the loop is `retrieveall.training.pack`'s;
whatever is an adapter's own stands here, however many others are trained beside it.

Every batch is a function of (seed, epoch), so a training that is killed and loaded from its last save
ends with the same weights as one that was not. Source: RetrieveAll, CKAL (one LoRA per language, loss
on the tagged output); the optimiser, schedule and sizes are our own choice.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from retrieveall.engine.automaton import label_grammar
from retrieveall.errors import ConfigError, InputError
from retrieveall.lora.peft_files import RANKS
from retrieveall.lora.trained import TrainedLora
from retrieveall.models.dtypes import check_dtype
from retrieveall.training.data import (
    DecidedRow,
    RenderConfig,
    RenderedRow,
    TrainingRow,
    decided_row,
    epoch_batches,
    fits_budget,
    render_row,
)
from retrieveall.training.muon import Muon
from retrieveall.training.renaming import name_makers
from retrieveall.training.shared import Portion, SharedBase

RECIPE = "6"
"""Version of this loop: what a recipe of the same numbers gives depends on it."""

_EPOCHS = 2
_LEAST_STEPS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterTrainingConfig:
    """The recipe of an adapter.

    Attributes:
        rank: Rank r of the LoRA, on every linear layer but the head.
        alpha: Scale numerator; the update is (alpha / rank) · B A.
        learning_rate: Peak of a cosine after linear warm-up, for Muon on the scale of AdamW's.
        epochs: Passes over the training rows; None makes two, more where these would be under 60 steps.
        pass_share: Share of these passes that is left to this training, at least one.
        batch_rows: Rows of one batch on one worker; the loss is the mean over a batch's decisions.
        accumulate: Batches of one optimiser step.
        patience: Epochs without a better dev loss after which training stops.
        save_steps: Optimiser steps between two saves.
        dtype: What the base computes in; None takes the device's default. The adapter's own matrices are
            float32 or better.

    Raises:
        ConfigError: A field is out of range.
    """

    rank: int = 64
    alpha: int = 128
    learning_rate: float = 2e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    epochs: int | None = None
    pass_share: float = 1.0
    batch_rows: int = 16
    accumulate: int = 1
    patience: int = 2
    dev_rows: int = 400
    save_steps: int = 200
    seed: int = 0
    dtype: str | None = None
    render: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self) -> None:
        if self.rank not in RANKS:
            raise ConfigError(f"rank is {self.rank}; use one of {', '.join(map(str, RANKS))}.")
        for name in ("alpha", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a number above 0.")
        for name in ("epochs", "batch_rows", "accumulate", "patience", "save_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give a number of at least 1.")
        if self.dtype is not None:
            check_dtype(self.dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a training stands after an optimiser step.

    Attributes:
        tokens: Prompt and target tokens seen so far, by all workers.
        dev_loss: Mean nats per decision, on the last step of an epoch only.
        ends_epoch: True on the last step of an epoch.
        finished: True on the last step of all.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    tokens: int
    dev_loss: float | None = None
    ends_epoch: bool = False
    finished: bool = False


class AdapterTraining:
    """One training of one adapter.

    Args:
        base: The frozen base, which other trainings may share.
        labels: The labels that the adapter may emit.
        train: Training rows, at least one.
        dev: Dev rows for the loss that decides early stopping; may be empty (then no early stop).
        config: The recipe.
        rank: This worker's number; gradients are averaged over all workers of torch.distributed.
        world_size: Number of workers; each takes every world_size-th batch.
        initial: An adapter folder to continue from (polyglot_then_monolingual).

    Attributes:
        tokens: Prompt and target tokens of the steps done, by all workers, padding not counted.
        adapter: What is trained; once `finished` it holds the weights of the epoch with the best dev loss.

    Raises:
        InputError: There is no training row that fits the prompt budget.
        IncompatibleArtefactError: The initial adapter is of another rank or base.
    """

    def __init__(
        self,
        base: SharedBase,
        *,
        labels: Sequence[str],
        train: Sequence[TrainingRow],
        dev: Sequence[TrainingRow],
        config: AdapterTrainingConfig,
        rank: int = 0,
        world_size: int = 1,
        initial: Path | None = None,
    ) -> None:
        self._base, self.config = base, config
        self._rank, self._world_size = rank, world_size
        self._train = self._fitting(train)
        self._dev = self._fitting(dev[: config.dev_rows])
        self.rows_too_long = len(train) - len(self._train)
        if not self._train:
            raise InputError(
                f"None of {len(train)} training sentences fits a prompt of"
                f" {config.render.budget_tokens} tokens."
                " Import more or shorter sentences, or raise the prompt budget."
            )
        self._makers = name_makers(row.sentence for row in self._train)
        self._grammar = label_grammar(tuple(labels), tuple(map(base.codec.label, labels)))
        self.adapter = _first_weights(base, config, initial)
        self._trained = list(self.adapter.parameters.values())
        self._optimiser = Muon(self._trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.step = self.tokens = 0
        self._epochs_without_gain = 0
        self._best_loss = math.inf
        self._best: dict[str, Tensor] | None = None
        self._plan: _EpochPlan | None = None
        self.history: list[dict[str, float]] = []

    def _fitting(self, rows: Sequence[TrainingRow]) -> list[TrainingRow]:
        return [row for row in rows if fits_budget(row, self._base.codec, self.config.render)]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        batches = math.ceil(len(self._train) / self.config.batch_rows)
        return math.ceil(batches / (self._world_size * self.config.accumulate))

    @property
    def epochs(self) -> int:
        """Passes over the training rows, at most; a hundred sentences need more of them than a thousand."""
        wanted = self.config.epochs or max(_EPOCHS, math.ceil(_LEAST_STEPS / self.steps_per_epoch))
        return max(1, round(wanted * self.config.pass_share))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training without early stopping."""
        return self.steps_per_epoch * self.epochs

    @property
    def finished(self) -> bool:
        """True after the last step: all epochs are done, or the last ones brought no gain."""
        return self.step >= self.total_steps or self._epochs_without_gain >= self.config.patience

    def portion(self) -> Portion:
        """Returns the rows of the coming step; their weighted nats sum up to its loss.

        The loss is the mean over the step's batches of the mean nats per decision, 0 where a batch has none.
        """
        epoch, index = divmod(self.step, self.steps_per_epoch)
        mine = self._epoch_plan(epoch).batches
        batches = mine[index * self.config.accumulate : (index + 1) * self.config.accumulate]
        rows: list[DecidedRow] = []
        weights: list[float] = []
        for indices in batches:
            batch = [decided_row(self._render(number, epoch), self._grammar) for number in indices]
            decisions = sum(len(row.steps) for row in batch)
            rows += batch
            weights += [1 / (max(1, decisions) * len(batches))] * len(batch)
        return Portion(adapter=self.adapter, rows=rows, weights=weights)

    def _epoch_plan(self, epoch: int) -> _EpochPlan:
        """This worker's batches of an epoch, as many on every worker.

        Rows are rendered for their lengths here and again for their batch: that costs a hundredth of
        a step, and rows of one length waste no padding.
        """
        if self._plan is None or self._plan.epoch != epoch:
            rng = random.Random(f"{self.config.seed}:{epoch}")
            lengths = [len(self._render(index, epoch)) for index in range(len(self._train))]
            batches = list(epoch_batches(lengths, self.config.batch_rows, rng))
            of_step = self.config.accumulate * self._world_size
            wanted = self.steps_per_epoch * of_step
            missing = wanted - len(batches)
            batches += batches[:missing] if len(batches) > 1 else batches * missing
            sizes = [sum(lengths[row] for row in batch) for batch in batches]
            self._plan = _EpochPlan(
                epoch=epoch,
                batches=batches[self._rank :: self._world_size],
                step_tokens=[sum(sizes[at : at + of_step]) for at in range(0, wanted, of_step)],
            )
        return self._plan

    def _render(self, index: int, epoch: int) -> RenderedRow:
        rng = random.Random(f"{self.config.seed}:{epoch}:{index}")
        row = self._train[index]
        maker = self._makers[row.sentence.language]
        return render_row(row, self._base.codec, self.config.render, rng, maker)

    def _render_dev(self, index: int) -> RenderedRow:
        rng = random.Random(f"{self.config.seed}:dev:{index}")
        return render_row(self._dev[index], self._base.codec, self.config.render, rng)

    def take_step(self, loss: float) -> Progress:
        """Moves the weights along their gradients, and at the end of an epoch looks at the dev loss.

        Args:
            loss: Of the step's portion, whose gradients are there.
        """
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._lr_factor()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        epoch, index = divmod(self.step, self.steps_per_epoch)
        self.tokens += self._epoch_plan(epoch).step_tokens[index]
        self.step += 1
        ends_epoch = self.step % self.steps_per_epoch == 0
        dev_loss = self._end_epoch(loss) if ends_epoch else None
        if self.finished:
            self._restore_best()
        return Progress(
            step=self.step,
            total_steps=self.total_steps,
            epoch=(self.step - 1) // self.steps_per_epoch,
            loss=loss,
            tokens=self.tokens,
            dev_loss=dev_loss,
            ends_epoch=ends_epoch,
            finished=self.finished,
        )

    def _lr_factor(self) -> float:
        warmup = max(1, round(self.total_steps * self.config.warmup_share))
        if self.step < warmup:
            return (self.step + 1) / warmup
        done = (self.step - warmup) / max(1, self.total_steps - warmup)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))

    def _average_gradients(self) -> None:
        if self._world_size == 1:
            return
        for parameter in self._trained:
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self._world_size

    def _end_epoch(self, train_loss: float) -> float | None:
        dev_loss = self.dev_loss()
        self.history.append({"step": self.step, "loss": train_loss, "dev_loss": dev_loss or math.nan})
        if dev_loss is None or dev_loss < self._best_loss:
            self._best_loss = dev_loss if dev_loss is not None else math.inf
            self._epochs_without_gain = 0
            self._best = {name: p.detach().clone() for name, p in self.adapter.parameters.items()}
        else:
            self._epochs_without_gain += 1
        return dev_loss

    def dev_loss(self) -> float | None:
        """Mean nats per decision on the dev rows, None where there are none."""
        if not self._dev:
            return None
        decisions = sum(len(row.steps) for row in self._dev_decided)
        return self._base.nats(self.adapter, self._dev_decided) / max(1, decisions)

    @cached_property
    def _dev_decided(self) -> list[DecidedRow]:
        """The dev rows, rendered once: examples are dropped from them the same way every time."""
        rows = map(self._render_dev, range(len(self._dev)))
        return [decided_row(row, self._grammar) for row in rows]

    def _restore_best(self) -> None:
        if self._best is not None:
            self._set_weights(self._best)

    @torch.no_grad()
    def _set_weights(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.adapter.parameters.items():
            parameter.copy_(weights[name])

    def save(self, folder: Path) -> None:
        """Writes everything that `load` needs to go on from here."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "tokens": self.tokens,
            "best_loss": self._best_loss,
            "epochs_without_gain": self._epochs_without_gain,
            "weights": self.adapter.parameters,
            "best": self._best,
            "optimiser": self._optimiser.state_dict(),
            "history": json.dumps(self.history),
        }
        torch.save(state, folder / "training.pt.tmp")
        (folder / "training.pt.tmp").replace(folder / "training.pt")

    def load(self, folder: Path) -> None:
        """Goes back to a saved state of a training with the same arguments."""
        state = torch.load(folder / "training.pt", weights_only=True, map_location="cpu")
        self._set_weights(state["weights"])
        self._best = state["best"]
        self._best_loss = state["best_loss"]
        self._epochs_without_gain = state["epochs_without_gain"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.history = json.loads(state["history"])
        self.step, self.tokens = state["step"], state["tokens"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _EpochPlan:
    """One worker's batches of an epoch, and the tokens of each step by all workers."""

    epoch: int
    batches: list[list[int]]
    step_tokens: list[int]


def _first_weights(base: SharedBase, config: AdapterTrainingConfig, initial: Path | None) -> TrainedLora:
    """A new LoRA, its first weights a function of the seed, or a given one's."""
    begin = (
        partial(TrainedLora.new, seed=config.seed)
        if initial is None
        else partial(TrainedLora.continued, folder=initial)
    )
    return begin(
        shapes=base.shapes, rank=config.rank, alpha=config.alpha, dtype=base.dtype, device=base.device
    )
