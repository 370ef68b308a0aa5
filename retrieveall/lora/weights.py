"""One LoRA adapter in memory, as batched layers multiply it, and how it is read from PEFT's files.

    y = x W^T + s · (x A^T) B^T        s = alpha / r, or alpha / sqrt(r) with rsLoRA

Axes: I inputs, O outputs, R rank of a linear layer. The scale is multiplied into B once at load, in
float32 or better, so that no batched path can forget it or mix up the scales of two adapters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from retrieveall.errors import IncompatibleArtefactError, MemoryLimitError, NotFoundError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_KEY = re.compile(r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight$")
_NUMBERS = count()
_UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraPair:
    """The two matrices of one adapter at one linear layer.

    Attributes:
        a: A transposed, shape (inputs, rank).
        b: B transposed and scaled, shape (rank, outputs).
    """

    a: torch.Tensor
    b: torch.Tensor

    @property
    def rank(self) -> int:
        """Rank of this layer's update."""
        return self.a.shape[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of both matrices."""
        return self.a.nbytes + self.b.nbytes


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraWeights:
    """One adapter.

    Attributes:
        pairs: Per name of a linear layer of the base its two matrices.
        number: No two adapters of a process have the same, not even one that was loaded again.
    """

    pairs: Mapping[str, LoraPair]
    number: int = field(init=False, compare=False, default_factory=_NUMBERS.__next__)

    @property
    def rank(self) -> int:
        """Largest rank over the layers."""
        return max(pair.rank for pair in self.pairs.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of all matrices."""
        return sum(pair.size_bytes for pair in self.pairs.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraFiles:
    """Where an engine's adapters come from.

    Attributes:
        resolve: From a digest to the folder with the adapter's files.
        shapes: Per name of a linear layer of the base its (inputs, outputs).
        dtype: The base's data type.
        device: The base's device.
    """

    resolve: Callable[[str], Path]
    shapes: Mapping[str, tuple[int, int]]
    dtype: torch.dtype
    device: torch.device

    def size_bytes(self, digest: str) -> int:
        """Returns the bytes that `load` would take, without reading the matrices.

        Raises:
            Exception: Whatever `resolve` raises, or as in `load_lora`.
        """
        path = _weights_path(self.resolve(digest))
        try:
            with safe_open(path, framework="pt") as file:
                shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error) from error
        return sum(map(math.prod, shapes)) * self.dtype.itemsize

    def load(self, digest: str) -> LoraWeights:
        """Loads an adapter.

        Raises:
            MemoryLimitError: The device has no room for it.
            Exception: Whatever `resolve` raises, or as in `load_lora`.
        """
        try:
            return load_lora(self.resolve(digest), self.shapes, dtype=self.dtype, device=self.device)
        except torch.OutOfMemoryError as error:
            full = str(error)  # the error itself holds on to what was loaded
        raise MemoryLimitError(
            f"The adapter {digest} was to be loaded, {self.device} has no memory left ({full})."
            " Lower `memory_share`, or use a larger device."
        )


def load_lora(
    folder: Path,
    shapes: Mapping[str, tuple[int, int]],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> LoraWeights:
    """Reads an adapter in PEFT format.

    Args:
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.
        shapes: Per name of a linear layer of the base its (inputs, outputs).
        dtype: The base's data type.
        device: The base's device.

    Raises:
        NotFoundError: A file is missing.
        IncompatibleArtefactError: A file is broken, of a kind that batched layers cannot run, or made
            for a base of another shape.
    """
    settings = _settings(folder)
    pairs: dict[str, LoraPair] = {}
    for layer, (a_RI, b_OR) in _matrices(folder).items():
        _check_layer(folder, layer, a_RI, b_OR, shapes)
        rank = a_RI.shape[0]
        alpha = float(settings["lora_alpha"])
        scale = alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank
        wide = torch.promote_types(b_OR.dtype, torch.float32)
        pairs[layer] = LoraPair(
            a=a_RI.T.to(device, dtype).contiguous(),
            b=(b_OR.T.to(wide) * scale).to(device, dtype).contiguous(),
        )
    if not pairs:
        raise IncompatibleArtefactError(f"The adapter in {folder} holds no LoRA matrices. Publish it again.")
    return LoraWeights(pairs=pairs)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        known = settings["peft_type"] == "LORA" and settings["lora_alpha"] is not None
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist. Publish the adapter again.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error
    unsupported = [name for name in _UNSUPPORTED if settings.get(name)]
    if not known or unsupported or settings.get("bias", "none") != "none":
        raise IncompatibleArtefactError(
            f"{path} describes an adapter with {unsupported or 'another type or a trained bias'}; plain LoRA"
            " without biases is expected. Train it again with PEFT's default LoraConfig."
        )
    return dict(settings)


def _matrices(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    path = _weights_path(folder)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        found = _KEY.match(key)
        if found is None or not torch.isfinite(tensor).all():
            raise IncompatibleArtefactError(
                f"{path} holds {key!r}, which is not a finite LoRA matrix of a linear layer."
                " Train the adapter on linear layers only and publish it again."
            )
        sides.setdefault(found["layer"], {})[found["side"]] = tensor
    broken = sorted(layer for layer, pair in sides.items() if pair.keys() != {"A", "B"})
    if broken:
        raise IncompatibleArtefactError(f"{path} lacks A or B of {broken[0]}. Publish the adapter again.")
    return {layer: (pair["A"], pair["B"]) for layer, pair in sides.items()}


def _weights_path(folder: Path) -> Path:
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise NotFoundError(f"{path} does not exist. Publish the adapter again.")
    return path


def _unreadable(path: Path, error: Exception) -> IncompatibleArtefactError:
    return IncompatibleArtefactError(f"{path} cannot be read ({error}). Publish the adapter again.")


def _check_layer(
    folder: Path,
    layer: str,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    shapes: Mapping[str, tuple[int, int]],
) -> None:
    if layer not in shapes:
        raise IncompatibleArtefactError(
            f"The adapter in {folder} changes {layer!r}, the base has no such linear layer outside its"
            f" output head, but {next(iter(shapes), 'none')!r} and others. Use the base it was trained on."
        )
    inputs, outputs = shapes[layer]
    fits = a_RI.ndim == b_OR.ndim == 2 and a_RI.shape[0] == b_OR.shape[1]
    if not fits or (a_RI.shape[1], b_OR.shape[0]) != (inputs, outputs):
        raise IncompatibleArtefactError(
            f"The adapter in {folder} has A {tuple(a_RI.shape)} and B {tuple(b_OR.shape)} at {layer!r}, the"
            f" base has {inputs} inputs and {outputs} outputs there. Use the base it was trained on."
        )


def fused(parts: Sequence[tuple[LoraWeights, float]]) -> LoraWeights:
    """Fuses adapters into one: (Σ w_i B_i)(Σ w_i A_i), LoraRetriever's fusion where w_i = 1/k.

    Scales stay with B. Lower ranks are padded with zeros, a layer that an adapter leaves alone counts
    as zeros.

    Args:
        parts: At least one adapter with its weight.
    """
    layers = sorted({layer for weights, _ in parts for layer in weights.pairs})
    return LoraWeights(pairs={layer: _fused_pair(layer, parts) for layer in layers})


def fused_bytes(parts: Sequence[LoraWeights]) -> int:
    """Returns the bytes that `fused` would take: each layer has the largest rank of its parts."""
    largest: dict[str, int] = {}
    for weights in parts:
        for layer, pair in weights.pairs.items():
            largest[layer] = max(largest.get(layer, 0), pair.size_bytes)
    return sum(largest.values())


def _fused_pair(layer: str, parts: Sequence[tuple[LoraWeights, float]]) -> LoraPair:
    present = [(weights.pairs[layer], weight) for weights, weight in parts if layer in weights.pairs]
    rank = max(pair.rank for pair, _ in present)
    a_IR = torch.zeros(present[0][0].a.shape[0], rank).to(present[0][0].a)
    b_RO = torch.zeros(rank, present[0][0].b.shape[1]).to(present[0][0].b)
    for pair, weight in present:
        a_IR[:, : pair.rank] += weight * pair.a
        b_RO[: pair.rank] += weight * pair.b
    return LoraPair(a=a_IR, b=b_RO)
