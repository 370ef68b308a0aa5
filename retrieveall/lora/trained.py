"""LoRA adapters under training: the layers of `retrieveall.lora.layers`, forward and backward.

    y = x W^T + s · (x A^T) B^T        s = alpha / r

Rows of one adapter stand together in the batch, each adapter keeps its own matrices and its own rank,
and the frozen W is multiplied once for all of them. An adapter's gradient comes from its own rows alone.

Axes: N rows, L tokens of a row, I inputs, O outputs, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

from retrieveall.errors import IncompatibleArtefactError
from retrieveall.lora.weights import WEIGHTS_FILE, load_lora


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainedLora:
    """One adapter whose matrices have gradients.

    Attributes:
        rank: R of every layer.
        alpha: Scale numerator.
        matrices: Per name of a linear layer of the base A (R, I) and B (O, R), in float32 or better.
    """

    rank: int
    alpha: int
    matrices: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    @classmethod
    def new(
        cls,
        shapes: Mapping[str, tuple[int, int]],
        *,
        rank: int,
        alpha: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> TrainedLora:
        """Returns an adapter that changes nothing yet: B is zero, A is what PEFT draws with this seed.

        Args:
            shapes: Per name of a linear layer its (inputs, outputs), as `attach_lora` returns them.
            rank: R of every layer.
            alpha: Scale numerator.
            seed: Decides A.
            dtype: The base's; matrices are kept in float32 where it is narrower.
            device: The base's.
        """
        wide = torch.promote_types(dtype, torch.float32)
        generator = torch.Generator().manual_seed(seed)
        matrices = {}
        for layer, (inputs, outputs) in shapes.items():
            # PEFT fills A and B as any linear layer, then A once more: only the last draw counts
            for rows, columns in ((rank, inputs), (outputs, rank), (rank, inputs)):
                a_RI = torch.nn.init.kaiming_uniform_(
                    torch.empty(rows, columns), a=math.sqrt(5), generator=generator
                )
            b_OR = torch.zeros(outputs, rank)
            matrices[layer] = _trainable(a_RI.to(device, wide)), _trainable(b_OR.to(device, wide))
        return cls(rank=rank, alpha=alpha, matrices=matrices)

    @classmethod
    def continued(
        cls,
        folder: Path,
        shapes: Mapping[str, tuple[int, int]],
        *,
        rank: int,
        alpha: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> TrainedLora:
        """Returns an adapter that starts as the one in a PEFT folder ends; arguments are those of `new`.

        Raises:
            NotFoundError: A file is missing.
            IncompatibleArtefactError: The adapter is of another rank or base.
        """
        wide = torch.promote_types(dtype, torch.float32)
        pairs = load_lora(folder, shapes, dtype=wide, device=device).pairs
        if pairs.keys() != shapes.keys() or {pair.rank for pair in pairs.values()} != {rank}:
            raise IncompatibleArtefactError(
                f"The adapter in {folder} has rank {sorted({pair.rank for pair in pairs.values()})} on"
                f" {len(pairs)} layers; it can be continued with rank {rank} on all {len(shapes)} linear"
                " layers. Train with the rank of the adapter that is continued."
            )
        scale = alpha / rank
        matrices = {
            layer: (
                _trainable(pairs[layer].a.T.contiguous()),
                _trainable((pairs[layer].b.T / scale).contiguous()),
            )
            for layer in shapes
        }
        return cls(rank=rank, alpha=alpha, matrices=matrices)

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """All matrices, named as PEFT's files name them."""
        return {
            f"base_model.model.{layer}.lora_{side}.weight": matrix
            for layer, pair in self.matrices.items()
            for side, matrix in zip("AB", pair, strict=True)
        }

    def update(self, layer: str, x_NLI: torch.Tensor) -> torch.Tensor:
        """Returns what the adapter adds to a layer's output, (N, L, O), in the base's data type."""
        a_RI, b_OR = self.matrices[layer]
        low_NLR = functional.linear(x_NLI, a_RI.to(x_NLI.dtype))
        return functional.linear(low_NLR, b_OR.to(x_NLI.dtype) * (self.alpha / self.rank))

    def save(self, folder: Path) -> None:
        """Writes ``adapter_config.json`` and ``adapter_model.safetensors`` in PEFT format."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: matrix.detach().cpu() for name, matrix in self.parameters.items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        from peft import LoraConfig  # seconds that only the end of a training needs

        LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=sorted({layer.rpartition(".")[2] for layer in self.matrices}),
            bias="none",
            task_type="CAUSAL_LM",
            inference_mode=True,
        ).save_pretrained(str(folder))


def _trainable(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.requires_grad_()


class TrainingPlan:
    """Which adapter acts on which rows of a batch that is trained on.

    Args:
        parts: In the order of the rows each adapter with the number of its rows, at least one.
    """

    def __init__(self, parts: Sequence[tuple[TrainedLora, int]]) -> None:
        self._adapters = [adapter for adapter, _ in parts]
        self._rows = [rows for _, rows in parts]

    def add(self, layer: str, x_NLI: torch.Tensor, y_NLO: torch.Tensor) -> torch.Tensor:
        """Adds every row's LoRA of one layer to the base's output, in place, and returns it.

        One `split` and one `cat` for all adapters: adding to a slice of ``y`` for each would have autograd
        copy the whole gradient as often.
        """
        if len(self._adapters) == 1:  # nothing to cut, nothing to copy together
            return y_NLO.add_(self._adapters[0].update(layer, x_NLI))
        parts = torch.split(x_NLI, self._rows)
        updates = [adapter.update(layer, x) for adapter, x in zip(self._adapters, parts, strict=True)]
        return y_NLO.add_(torch.cat(updates))
