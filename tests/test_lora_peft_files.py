from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieveall.errors import InputError
from retrieveall.lora.peft_files import check_peft_files
from tests.stores import peft_folder


def test_the_digest_is_the_training_not_the_machine(tmp_path: Path) -> None:
    one = peft_folder(tmp_path / "1", base_model_name_or_path="/home/a/base", target_modules=["v", "q"])
    two = peft_folder(tmp_path / "2", base_model_name_or_path="/mnt/base", target_modules=["q", "v"])
    files = [check_peft_files(folder, base_model="tiny") for folder in (one, two)]
    assert files[0] == files[1] and files[0].config["base_model_name_or_path"] == "tiny"
    other = check_peft_files(
        peft_folder(tmp_path / "3", seed=1, target_modules=["q", "v"]), base_model="tiny"
    )
    assert other.digest != files[0].digest


@pytest.mark.parametrize(
    "config",
    [
        {"r": 7},
        {"r": "8"},
        {"r": True},
        {"lora_alpha": 0},
        {"lora_alpha": float("inf")},
        {"bias": "lora_only"},
        {"peft_type": "IA3"},
        {"task_type": "SEQ_CLS"},
        {"rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 4}},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"layer_replication": [[0, 1]]},
    ],
)
def test_what_vllm_or_the_engine_cannot_run_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = peft_folder(tmp_path)
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, **config}))
    with pytest.raises(InputError, match=next(iter(config))):
        check_peft_files(folder, base_model="tiny")


def _change_tensors(folder: Path, change: Mapping[str, torch.Tensor | None]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {**load_file(path), **change}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({_A: torch.full((8, 4), float("nan"))}, "NaN"),
        ({_A: torch.zeros(8, 4, dtype=torch.int64)}, "floating-point"),
        ({_A: torch.zeros(16, 4)}, "shape"),
        ({_A: torch.zeros(8)}, "shape"),
        ({_A: None}, "lacks lora_A or lora_B"),
        ({"base_model.model.lm_head.weight": torch.zeros(2, 2)}, "lm_head"),
        ({"base_model.model.x.lora_embedding_A": torch.zeros(8, 2)}, "lora_embedding_A"),
        ({"../x": torch.zeros(2, 2)}, "expected base_model"),
    ],
)
def test_bad_tensors_are_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    folder = peft_folder(tmp_path)
    _change_tensors(folder, change)
    with pytest.raises(InputError, match=message):
        check_peft_files(folder, base_model="tiny")


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    weights = peft_folder(tmp_path) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match="not a whole safetensors"):
        check_peft_files(tmp_path, base_model="tiny")


@pytest.mark.parametrize("text", ["{", "[]", "null", "\ud800"])
def test_a_broken_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (peft_folder(tmp_path) / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        check_peft_files(tmp_path, base_model="tiny")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    (peft_folder(tmp_path) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(InputError, match="pickle files are never read"):
        check_peft_files(tmp_path, base_model="tiny")
