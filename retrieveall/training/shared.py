"""The frozen base that all adapters of one process are trained over.

One forward and one backward pass hold rows of several adapters, each row with its own. As a row's nats
depend on its own adapter alone, the sum of all adapters' losses gives each of them the gradient that
it would have by itself. Source: own choice.

The base stays in evaluation mode: a dropout of its own would depend on who else is in the batch.

Axes: B rows, N decisions of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from retrieveall.engine.head import AllowedScorer
from retrieveall.engine.passes import passes
from retrieveall.errors import ConfigError
from retrieveall.lora.layers import attach_lora
from retrieveall.lora.trained import TrainedLora, TrainingPlan
from retrieveall.prompting.codec import PromptCodec
from retrieveall.training.data import Batch, DecidedRow, collate


@dataclass(frozen=True, kw_only=True, slots=True)
class Portion:
    """What one adapter contributes to a step.

    Attributes:
        rows: Its rows, at least one.
        weights: What a nat of each row counts in the adapter's loss.
    """

    adapter: TrainedLora
    rows: Sequence[DecidedRow]
    weights: Sequence[float]


class SharedBase:
    """A causal LM whose linear layers, but for the head, carry adapters that are trained.

    Args:
        model: The frozen base in the dtype and on the device to train on; its layers are wrapped in place.
        codec: Its codec.
        pad_id: Padding token id.
        pass_tokens: Most tokens of one forward pass, padding counted.
        pass_cost: As many tokens as one more pass costs.

    Attributes:
        codec: Its codec.
        shapes: Per name of a linear layer its (inputs, outputs).

    Raises:
        ConfigError: The model has no linear layer that could carry an adapter.
    """

    def __init__(
        self, model: Any, codec: PromptCodec, *, pad_id: int, pass_tokens: int, pass_cost: int
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.codec = codec
        self._pad_id, self._pass_tokens, self._pass_cost = pad_id, pass_tokens, pass_cost
        self._switch, self.shapes = attach_lora(model, skip=model.get_output_embeddings())
        if not self.shapes:
            raise ConfigError(
                f"The base, a {type(model).__name__}, has no linear layers besides its head; LoRA needs some."
                " Use a base of Llama's, Qwen's, Gemma's or Mistral's kind."
            )
        self._scorer = AllowedScorer(model)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def backward(self, portions: Sequence[Portion]) -> list[float]:
        """Adds to every adapter's gradients those of its own loss and returns the losses.

        Args:
            portions: Of different adapters, whose gradients are left alone by one another's rows.
        """
        owners = [number for number, portion in enumerate(portions) for _ in portion.rows]
        rows = [row for portion in portions for row in portion.rows]
        weights = [weight for portion in portions for weight in portion.weights]
        losses = [0.0] * len(portions)
        for chosen in self._passes(rows):
            mine = [owners[index] for index in chosen]
            parts = [(portions[number].adapter, len(list(same))) for number, same in groupby(mine)]
            nats_B = self._nats(collate([rows[index] for index in chosen], self._pad_id), parts)
            weighted_B = nats_B * nats_B.new_tensor([weights[index] for index in chosen])
            weighted_B.sum().backward()  # type: ignore[no-untyped-call]
            for number, loss in zip(mine, weighted_B.tolist(), strict=True):
                losses[number] += loss
        return losses

    @torch.no_grad()
    def nats(self, adapter: TrainedLora, rows: Sequence[DecidedRow]) -> float:
        """Returns the sum of the rows' nats with one adapter."""
        batches = [collate([rows[index] for index in chosen], self._pad_id) for chosen in self._passes(rows)]
        return sum(float(self._nats(b, [(adapter, len(b.ids_BT))]).sum()) for b in batches)

    def _passes(self, rows: Sequence[DecidedRow]) -> list[list[int]]:
        return passes([len(row) for row in rows], self._pass_tokens, self._pass_cost)

    def _nats(self, batch: Batch, parts: Sequence[tuple[TrainedLora, int]]) -> Tensor:
        """Returns (B,), the nats of each row's decisions, 0 where it has none."""
        device = self.device
        self._switch.plan = TrainingPlan(parts)
        try:
            states = self._scorer.states(
                batch.columns,
                input_ids=batch.ids_BT.to(device),
                attention_mask=batch.mask_BT.to(device),
                position_ids=batch.positions_BT.to(device),
                use_cache=False,
            )
        finally:
            self._switch.plan = None
        deciding = states.flatten(0, 1)[batch.places_N.to(device)]
        logprobs_NK = self._scorer.logprobs(deciding, batch.allowed_NK.to(device))
        nats_N = -logprobs_NK.gather(1, batch.chosen_N.to(device)[:, None])[:, 0]
        return nats_N.new_zeros(len(batch.ids_BT)).index_add(0, batch.owners.to(device), nats_N)
