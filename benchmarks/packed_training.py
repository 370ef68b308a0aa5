"""P14: one step that trains 8 LoRAs over a shared base, against 8 separate PEFT steps.

    python benchmarks/packed_training.py            # shape S, about 10 minutes on a slow core

A base with random weights, 8 adapters of rank 16 on all linear layers, prompts of 48 to 256 tokens, targets
as long as PAN-X's tag lines. Each adapter's batch is one that `epoch_batches` makes: rows of near lengths,
other lengths for every adapter. A step is forward, backward, clipping and Muon, the same on all sides:

- P14: 2 rows for each adapter, as small languages have few. One packed step against 8 steps of plain PEFT
  models; beside it 8 steps of our own layers, one adapter at a time (`ratio_to_own_single_steps`).
- P14-rows: the same with 8 times as many rows, where a batch of one adapter already fills a core.

First every adapter's gradients must be the same on all sides.

Not covered: reading and rendering of rows (a hundredth of a step), dev losses and saves, an adapter's rows
spread over workers, a GPU.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from lengths import target_lengths
from measuring import flags, parsed, print_profiles, result, take_turns, write
from random_base import LANGUAGES, RANK, SHAPES, Shape

from retrieveall.engine.head import AllowedScorer
from retrieveall.lora.trained import TrainedLora
from retrieveall.training.data import DecidedRow, collate, epoch_batches
from retrieveall.training.muon import Muon
from retrieveall.training.run import Device
from retrieveall.training.shared import Portion, SharedBase
from tests.models import tiny_model

_PAD_ID = 0
_FIRST_ID = 16
_ALLOWED = 24  # about as many units as a sentence has, each of which may begin a mention
_LEARNING_RATE = 1e-4
_PACKED, _PEFT, _SINGLE = "one packed step", "8 PEFT steps", "8 steps of our own"


def main() -> None:
    """Measures and writes P14 and P14-rows."""
    parser = flags(__doc__, rounds=5)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="S")
    parser.add_argument(
        "--rows", type=int, default=2, help="Rows of each adapter; 8 times as many in P14-rows."
    )
    parser.add_argument("--profile", action="store_true", help="Print where each side's time goes, too.")
    arguments = parsed(parser)
    suffix = "" if arguments.shape == "S" else f"-{arguments.shape}"
    for name, rows in (("P14", arguments.rows), ("P14-rows", 8 * arguments.rows)):
        write(measure(name, rows, arguments), arguments.results, name=f"{name}{suffix}")


def measure(name: str, rows: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compares the three ways to take a step of 8 adapters."""
    shape = SHAPES[arguments.shape]
    ours = Ours(shape, rows)
    rivals = [PeftStep(shape, portion) for portion in ours.portions]
    difference = max(map(gradient_difference, ours.gradients(), [rival.gradients() for rival in rivals]))
    assert difference < tolerance(shape.dtype), f"gradients differ by {difference:.1e} of their length"
    sides = {
        _PACKED: ours.step_together,
        _PEFT: lambda: [rival.step() for rival in rivals],
        _SINGLE: ours.step_one_by_one,
    }
    turns = take_turns(sides, arguments.rounds)
    if arguments.profile:
        print_profiles(sides)
    lengths = [[len(row) for row in portion.rows] for portion in ours.portions]
    return result(
        name,
        f"one step of 8 LoRAs over a shared base ÷ 8 PEFT steps, {rows} rows each",
        turns.speed_ratios(_PACKED, _PEFT),
        goal=2.0,
        sides=turns.wall_s,
        cpu=turns.cpu(_PACKED, _PEFT),
        ratio_to_own_single_steps=statistics.median(turns.speed_ratios(_PACKED, _SINGLE)),
        checks={"largest_gradient_difference": difference},
        setup={
            "shape": shape.name,
            "dtype": str(shape.dtype).removeprefix("torch."),
            "config": shape.config,
            "rank": RANK,
            "adapters": LANGUAGES,
            "rows_of_each": rows,
            "row_tokens": lengths,
            "pass_tokens": Device().pass_tokens,
            "pass_cost": Device().pass_cost,
            "peft": peft.__version__,
        },
    )


def tolerance(dtype: torch.dtype) -> float:
    """Returns how much of their length gradients may differ by; PEFT computes in float32 over bfloat16."""
    return 0.2 if dtype == torch.bfloat16 else 1e-3


class Ours:
    """Our layers over one base: all adapters in a step, or one after the other.

    Args:
        shape: Of the base.
        rows: Of each adapter.
    """

    def __init__(self, shape: Shape, rows: int) -> None:
        model: Any = tiny_model("llama", dtype=shape.dtype, **shape.config)
        self._base = SharedBase(
            model, None, pad_id=_PAD_ID, pass_tokens=Device().pass_tokens, pass_cost=Device().pass_cost
        )
        self.portions = [self._portion(shape, rows, number) for number in range(LANGUAGES)]
        self._movers = [Mover(portion.adapter.parameters) for portion in self.portions]

    def _portion(self, shape: Shape, rows: int, seed: int) -> Portion:
        adapter = TrainedLora.new(
            self._base.shapes,
            rank=RANK,
            alpha=RANK,
            seed=seed,
            dtype=self._base.dtype,
            device=self._base.device,
        )
        generator = torch.Generator().manual_seed(seed)
        for _, b_OR in adapter.matrices.values():
            b_OR.data.copy_(torch.randn(b_OR.shape, generator=generator) * 0.05)
        batch = random_batch(shape, rows, self._base.model.config.vocab_size, random.Random(seed))
        decisions = sum(len(row.steps) for row in batch)
        return Portion(adapter=adapter, rows=batch, weights=[1 / decisions] * rows)

    def gradients(self) -> list[dict[str, torch.Tensor]]:
        """Returns every adapter's gradients, of one backward for all."""
        self._base.backward(self.portions)
        return [mover.taken() for mover in self._movers]

    def step_together(self) -> None:
        """Takes one step of all adapters."""
        self._base.backward(self.portions)
        for mover in self._movers:
            mover.move()

    def step_one_by_one(self) -> None:
        """Takes a step of each adapter by itself."""
        for portion, mover in zip(self.portions, self._movers, strict=True):
            self._base.backward([portion])
            mover.move()


class PeftStep:
    """One adapter in a PEFT model of its own, as separate runs have it.

    Args:
        shape: Of the base.
        portion: The adapter and its rows.
    """

    def __init__(self, shape: Shape, portion: Portion) -> None:
        base: Any = tiny_model("llama", dtype=shape.dtype, **shape.config)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            portion.adapter.save(Path(folder))
            self._model = peft.PeftModel.from_pretrained(base, folder, is_trainable=True)
        self._scorer = AllowedScorer(self._model.get_base_model())
        self._portion = portion
        self._mover = Mover(
            {name.replace(".default", ""): p for name, p in self._model.named_parameters() if p.requires_grad}
        )

    def gradients(self) -> dict[str, torch.Tensor]:
        """Returns the gradients of one backward."""
        self._backward()
        return self._mover.taken()

    def step(self) -> None:
        """Takes one step."""
        self._backward()
        self._mover.move()

    def _backward(self) -> None:
        batch = collate(self._portion.rows, _PAD_ID)
        body = self._model.get_base_model().base_model  # all of it: the scorer would narrow the last layer
        hidden = body(
            input_ids=batch.ids_BT,
            attention_mask=batch.mask_BT,
            position_ids=batch.positions_BT,
            use_cache=False,
        ).last_hidden_state
        states = hidden[:, -batch.columns :]
        logprobs_NK = self._scorer.logprobs(states.flatten(0, 1)[batch.places_N], batch.allowed_NK)
        (-logprobs_NK.gather(1, batch.chosen_N[:, None]).mean()).backward()


class Mover:
    """What follows a backward, the same on all sides.

    Args:
        parameters: Of one adapter, by name.
    """

    def __init__(self, parameters: dict[str, torch.Tensor]) -> None:
        self._parameters = parameters
        self._optimiser = Muon(list(parameters.values()), lr=_LEARNING_RATE)

    def taken(self) -> dict[str, torch.Tensor]:
        """Takes the gradients away and returns them."""
        gradients = {name: p.grad.clone() for name, p in self._parameters.items() if p.grad is not None}
        self._optimiser.zero_grad(set_to_none=True)
        return gradients

    def move(self) -> None:
        """Clips the gradients and takes a step."""
        torch.nn.utils.clip_grad_norm_(list(self._parameters.values()), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)


def random_batch(shape: Shape, rows: int, vocabulary: int, rng: random.Random) -> list[DecidedRow]:
    """Makes the rows of one batch, as near in length as those of an epoch's batch are."""
    epoch = [rng.randint(*shape.prompts) for _ in range(32 * rows)]
    chosen = next(epoch_batches(epoch, rows, rng))
    return [random_row(epoch[index], rng.choice(target_lengths()), vocabulary, rng) for index in chosen]


def random_row(prompt: int, target: int, vocabulary: int, rng: random.Random) -> DecidedRow:
    """Makes a row of random tokens whose target decides at every token."""

    def draw(count: int) -> Sequence[int]:
        return rng.sample(range(_FIRST_ID, vocabulary), count)

    return DecidedRow(
        ids=tuple(rng.randrange(_FIRST_ID, vocabulary) for _ in range(prompt + target)),
        target_tokens=target,
        steps=tuple(range(target)),
        allowed=tuple(tuple(sorted(draw(_ALLOWED))) for _ in range(target)),
        chosen=tuple(rng.randrange(_ALLOWED) for _ in range(target)),
    )


def gradient_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Returns the largest difference of two gradients of one matrix, as a share of their length."""
    assert ours.keys() == theirs.keys(), "the sides train other matrices"
    return max(float((ours[n] - theirs[n]).norm() / theirs[n].norm()) for n in theirs)


if __name__ == "__main__":
    main()
