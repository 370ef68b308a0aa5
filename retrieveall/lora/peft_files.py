"""The two PEFT files of an adapter, checked before anybody loads them.

What passes is read by plain PEFT, by our engine and by vLLM: LoRA on linear layers, one rank of 8, 16,
32, 64 or 128 for all of them, no bias, no other saved modules, safetensors and never pickle. The
configuration is written in one canonical spelling, so that the same training gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from retrieveall.digests import digest_file, digest_json
from retrieveall.errors import InputError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
RANKS = (8, 16, 32, 64, 128)

_CONFIG_MAX_BYTES = 1 << 20
_TENSOR = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight")
# settings of PEFT that change what the tensors mean, in ways that vLLM or our engine cannot follow
_MUST_BE_UNSET = (
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "use_dora",
    "lora_bias",
    "layer_replication",
    "fan_in_fan_out",
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "arrow_config",
    "alora_invocation_tokens",
    "megatron_config",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PeftFiles:
    """A checked pair of PEFT files.

    Attributes:
        config: ``adapter_config.json`` in canonical form.
        weights_digest: Full SHA-256 of ``adapter_model.safetensors``.
        parameters: Number of weights.
    """

    config: Mapping[str, Any]
    weights_digest: str
    parameters: int

    @property
    def digest(self) -> str:
        """Short digest of what the weights mean: both files, without the base's name or path."""
        counted = {k: v for k, v in self.config.items() if k != "base_model_name_or_path"}
        return digest_json({"config": counted, "weights": self.weights_digest})


def check_peft_files(folder: Path, *, base_model: str) -> PeftFiles:
    """Reads and checks an adapter's files.

    Args:
        folder: Holds the two files as PEFT's `save_pretrained` writes them.
        base_model: Put into the configuration as the base's name; PEFT writes a path of the machine
            that trained.

    Raises:
        InputError: A file is missing, broken, or holds what vLLM or our engine cannot use.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            there = ", ".join(sorted(path.name for path in folder.glob("*"))) or "nothing"
            raise InputError(
                f"{folder} has no {name} (there is {there}). Save the adapter with PEFT's"
                " save_pretrained(safe_serialization=True); pickle files are never read."
            )
    config = _checked_config(folder / CONFIG_FILE)
    parameters = _check_tensors(folder / WEIGHTS_FILE, config["r"])
    config["base_model_name_or_path"] = base_model
    return PeftFiles(config=config, weights_digest=digest_file(folder / WEIGHTS_FILE), parameters=parameters)


def _checked_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _CONFIG_MAX_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes; expected a PEFT configuration of a few KB."
        )
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} holds {type(config).__name__}; expected PEFT's JSON object.")
    _require(path, config, "peft_type", config.get("peft_type") == "LORA", "LORA")
    _require(path, config, "task_type", config.get("task_type") in (None, "CAUSAL_LM"), "CAUSAL_LM")
    _require(path, config, "r", config.get("r") in RANKS and type(config["r"]) is int, f"one of {RANKS}")
    alpha = config.get("lora_alpha")
    _require(path, config, "lora_alpha", isinstance(alpha, int | float) and 0 < alpha < 1e6, "positive")
    _require(path, config, "bias", config.get("bias", "none") == "none", "none")
    for name in _MUST_BE_UNSET:
        _require(path, config, name, not config.get(name), "unset, for vLLM and batched adapters")
    return {
        key: sorted(v) if key == "target_modules" and isinstance(v, list) else v for key, v in config.items()
    }


def _require(path: Path, config: Mapping[str, Any], name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"{path}: {name} is {str(config.get(name))[:200]!r}, expected {expected}.")


def _check_tensors(path: Path, rank: int) -> int:
    """Checks names, shapes and values; returns the number of weights."""
    sides: dict[str, set[str]] = {}
    parameters = 0
    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # safe_open is no mapping
                module, side = _named(path, name)
                sides.setdefault(module, set()).add(side)
                parameters += _check_tensor(path, name, tensors.get_tensor(name), rank, side)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from None
    lonely = sorted(module for module, both in sides.items() if both != {"A", "B"})
    if lonely or not sides:
        raise InputError(f"{path} lacks lora_A or lora_B of {lonely[:3] or 'every module'}.")
    return parameters


def _named(path: Path, name: str) -> tuple[str, str]:
    found = _TENSOR.fullmatch(name)
    if found is None:
        raise InputError(
            f"{path} holds a tensor {name[:200]!r}; expected base_model.model.<module>.lora_A.weight or"
            " lora_B.weight only. Train LoRA on linear layers, without modules_to_save."
        )
    return found["module"], found["side"]


def _check_tensor(path: Path, name: str, tensor: Any, rank: int, side: str) -> int:
    if tensor.ndim != 2 or tensor.shape[0 if side == "A" else 1] != rank or 0 in tensor.shape:
        expected = f"({rank}, d_in)" if side == "A" else f"(d_out, {rank})"
        raise InputError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected {expected}.")
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        raise InputError(f"{path}: {name} holds NaN, infinity or no floating-point numbers. Train it again.")
    return int(tensor.numel())
