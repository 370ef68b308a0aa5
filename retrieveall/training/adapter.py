"""Training of one LoRA adapter over the frozen base: a plain class, no Ray.

Every batch is a function of (seed, epoch), every step of the random state that it sets itself, so
a training that is killed and loaded from its last save ends with the same weights as one that was
not. Source: RetrieveAll, CKAL (one LoRA per language, loss on the tagged output); the optimiser,
schedule and sizes are our own choice.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor

from retrieveall.engine.automaton import label_grammar
from retrieveall.engine.head import AllowedScorer
from retrieveall.errors import InputError
from retrieveall.prompting.codec import PromptCodec
from retrieveall.training.data import (
    Batch,
    RenderConfig,
    RenderedRow,
    TrainingRow,
    collate,
    epoch_batches,
    fits_budget,
    render_row,
)
from retrieveall.training.muon import Muon
from retrieveall.training.renaming import NameMaker

RECIPE = "4"
"""Version of this loop: what a recipe of the same numbers gives depends on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterTrainingConfig:
    """The recipe of an adapter.

    Attributes:
        rank: Rank r of the LoRA, on every linear layer but the head.
        alpha: Scale numerator; the update is (alpha / rank) · B A.
        learning_rate: Peak of a cosine after linear warm-up, for Muon on the scale of AdamW's.
        epochs: Passes over the training rows.
        batch_rows: Rows of one forward pass on one worker.
        accumulate: Forward passes of one optimiser step.
        patience: Epochs without a better dev loss after which training stops.
        save_steps: Optimiser steps between two saves.
    """

    rank: int = 64
    alpha: int = 128
    learning_rate: float = 2e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    epochs: int = 2
    batch_rows: int = 16
    accumulate: int = 1
    patience: int = 2
    dev_rows: int = 400
    save_steps: int = 200
    seed: int = 0
    render: RenderConfig = field(default_factory=RenderConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a training stands after an optimiser step.

    Attributes:
        dev_loss: Mean nats per decision, on the last step of an epoch only.
        save: True when the caller should `save` now.
        finished: True on the last step.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    dev_loss: float | None = None
    save: bool = False
    finished: bool = False


class AdapterTraining:
    """One training of one adapter.

    Args:
        model: The frozen base in the dtype and on the device to train on.
        codec: The base's codec.
        pad_id: Padding token id.
        labels: The labels that the adapter may emit.
        train: Training rows, at least one.
        dev: Dev rows for the loss that decides early stopping; may be empty (then no early stop).
        config: The recipe.
        rank: This worker's number; gradients are averaged over all workers of torch.distributed.
        world_size: Number of workers; each takes every world_size-th batch.
        initial: An adapter folder to continue from (polyglot_then_monolingual).

    Raises:
        InputError: There is no training row that fits the prompt budget.
    """

    def __init__(
        self,
        model: Any,
        codec: PromptCodec,
        *,
        pad_id: int,
        labels: Sequence[str],
        train: Sequence[TrainingRow],
        dev: Sequence[TrainingRow],
        config: AdapterTrainingConfig,
        rank: int = 0,
        world_size: int = 1,
        initial: Path | None = None,
    ) -> None:
        self._codec, self._pad_id, self.config = codec, pad_id, config
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
        self._maker = NameMaker(row.sentence for row in self._train)
        self._grammar = label_grammar(tuple(labels), tuple(map(codec.label, labels)))
        self.model = _with_lora(model, config, initial)
        self._scorer = AllowedScorer(self.model.get_base_model())
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        self._optimiser = Muon(self._trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.step = 0
        self._epochs_without_gain = 0
        self._best_loss = math.inf
        self._best: dict[str, Tensor] | None = None
        self.history: list[dict[str, float]] = []

    def _fitting(self, rows: Sequence[TrainingRow]) -> list[TrainingRow]:
        return [row for row in rows if fits_budget(row, self._codec, self.config.render)]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        batches = math.ceil(len(self._train) / self.config.batch_rows)
        return math.ceil(batches / (self._world_size * self.config.accumulate))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training without early stopping."""
        return self.steps_per_epoch * self.config.epochs

    def run(self) -> Iterator[Progress]:
        """Trains from where it stands, yielding after every optimiser step.

        When the iterator ends the model holds the weights of the epoch with the best dev loss.
        """
        while self.step < self.total_steps and self._epochs_without_gain < self.config.patience:
            epoch = self.step // self.steps_per_epoch
            yield from self._run_epoch(epoch)
        self._restore_best()

    def _run_epoch(self, epoch: int) -> Iterator[Progress]:
        batches = self._epoch_plan(epoch)
        for index in range(self.step - epoch * self.steps_per_epoch, self.steps_per_epoch):
            mine = batches[index * self.config.accumulate : (index + 1) * self.config.accumulate]
            loss = self._optimise(mine, epoch)
            last = index + 1 == self.steps_per_epoch
            dev_loss = self._end_epoch(loss) if last else None
            finished = last and (
                epoch + 1 == self.config.epochs or self._epochs_without_gain >= self.config.patience
            )
            yield Progress(
                step=self.step,
                total_steps=self.total_steps,
                epoch=epoch,
                loss=loss,
                dev_loss=dev_loss,
                save=last or self.step % self.config.save_steps == 0,
                finished=finished,
            )

    def _epoch_plan(self, epoch: int) -> list[list[int]]:
        """This worker's batches of an epoch, as many on every worker.

        Rows are rendered for their lengths here and again for their batch: that costs a hundredth of
        a step, and rows of one length waste no padding.
        """
        rng = random.Random(f"{self.config.seed}:{epoch}")
        lengths = [len(self._render_train(index, epoch)) for index in range(len(self._train))]
        batches = list(epoch_batches(lengths, self.config.batch_rows, rng))
        wanted = self.steps_per_epoch * self.config.accumulate * self._world_size
        batches += batches[: wanted - len(batches)] if len(batches) > 1 else batches * (wanted - len(batches))
        return batches[self._rank :: self._world_size]

    def _optimise(self, batches: Sequence[Sequence[int]], epoch: int) -> float:
        self.model.train()
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        total = 0.0
        for indices in batches:
            rows = [self._render_train(index, epoch) for index in indices]
            loss = self.loss(self._collated(rows)) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._lr_factor()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def _render_train(self, index: int, epoch: int) -> RenderedRow:
        rng = random.Random(f"{self.config.seed}:{epoch}:{index}")
        return render_row(self._train[index], self._codec, self.config.render, rng, self._maker)

    def _render_dev(self, index: int) -> RenderedRow:
        rng = random.Random(f"{self.config.seed}:dev:{index}")
        return render_row(self._dev[index], self._codec, self.config.render, rng)

    def loss(self, batch: Batch) -> Tensor:
        """Mean nats per decision of a batch, 0 where it has none."""
        device = next(self.model.parameters()).device
        states = self._scorer.states(
            batch.columns,
            input_ids=batch.ids_BT.to(device),
            attention_mask=batch.mask_BT.to(device),
            position_ids=batch.positions_BT.to(device),
            use_cache=False,
        )
        deciding = states.flatten(0, 1)[batch.places_N.to(device)]
        logprobs_NK = self._scorer.logprobs(deciding, batch.allowed_NK.to(device))
        chosen_N = logprobs_NK.gather(1, batch.chosen_N.to(device)[:, None])
        return -chosen_N.sum() / max(1, len(batch.chosen_N))

    def _collated(self, rows: Sequence[RenderedRow]) -> Batch:
        return collate(rows, self._pad_id, self._grammar)

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
            self._best = {name: p.detach().clone() for name, p in self._named_trained()}
        else:
            self._epochs_without_gain += 1
        return dev_loss

    @torch.no_grad()
    def dev_loss(self) -> float | None:
        """Mean nats per decision on the dev rows, rendered the same way every time."""
        if not self._dev:
            return None
        self.model.eval()
        nats, decisions = 0.0, 0
        for start in range(0, len(self._dev), self.config.batch_rows):
            rows = [
                self._render_dev(index)
                for index in range(start, min(start + self.config.batch_rows, len(self._dev)))
            ]
            batch = self._collated(rows)
            nats += float(self.loss(batch)) * len(batch.chosen_N)
            decisions += len(batch.chosen_N)
        return nats / max(1, decisions)

    def _named_trained(self) -> list[tuple[str, Tensor]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def _restore_best(self) -> None:
        if self._best is not None:
            with torch.no_grad():
                for name, parameter in self._named_trained():
                    parameter.copy_(self._best[name])

    def save(self, folder: Path) -> None:
        """Writes everything that `load` needs to go on from here."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "best_loss": self._best_loss,
            "epochs_without_gain": self._epochs_without_gain,
            "weights": dict(self._named_trained()),
            "best": self._best,
            "optimiser": self._optimiser.state_dict(),
            "history": json.dumps(self.history),
        }
        torch.save(state, folder / "training.pt.tmp")
        (folder / "training.pt.tmp").replace(folder / "training.pt")

    def load(self, folder: Path) -> None:
        """Goes back to a saved state of a training with the same arguments."""
        state = torch.load(folder / "training.pt", weights_only=True, map_location="cpu")
        with torch.no_grad():
            for name, parameter in self._named_trained():
                parameter.copy_(state["weights"][name])
        self._best = state["best"]
        self._best_loss = state["best_loss"]
        self._epochs_without_gain = state["epochs_without_gain"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.history = json.loads(state["history"])
        self.step = state["step"]

    def save_adapter(self, folder: Path) -> None:
        """Writes ``adapter_config.json`` and ``adapter_model.safetensors`` in PEFT format."""
        self.model.save_pretrained(folder, safe_serialization=True)
        for extra in folder.iterdir():
            if extra.name not in {"adapter_config.json", "adapter_model.safetensors"}:
                shutil.rmtree(extra) if extra.is_dir() else extra.unlink()


def _with_lora(model: Any, config: AdapterTrainingConfig, initial: Path | None) -> Any:
    """Wraps the base with a new LoRA, its first weights a function of the seed, or a given one's."""
    if initial is not None:
        return PeftModel.from_pretrained(model, initial, is_trainable=True)
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def adapter_tensors(folder: Path) -> dict[str, Tensor]:
    """Reads an adapter's tensors, names as PEFT writes them."""
    return load_file(folder / "adapter_model.safetensors")
