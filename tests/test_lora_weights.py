from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieveall.errors import IncompatibleArtefactError, NotFoundError
from retrieveall.lora.layers import attach_lora
from retrieveall.lora.weights import CONFIG_FILE, WEIGHTS_FILE, LoraPair, LoraWeights, fused, load_lora
from tests.models import save_tiny_adapter, tiny_model

LAYER = "model.layers.0.self_attn.q_proj"
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_adapter(tmp_path / "adapter", tiny_model(), rank=8, alpha=24.0)


def load(folder: Path, **overrides: Any) -> LoraWeights:
    base: Any = tiny_model(**overrides)
    _, shapes = attach_lora(base, skip=base.get_output_embeddings())
    return load_lora(folder, shapes, dtype=torch.float32, device=CPU)


def test_every_layer_comes_with_its_scale(folder: Path) -> None:
    weights = load(folder)
    raw = load_file(folder / WEIGHTS_FILE)
    assert len(weights.pairs) == 14  # 2 layers of 7 linears
    assert weights.rank == 8
    pair = weights.pairs[LAYER]
    assert torch.equal(pair.a, raw[f"base_model.model.{LAYER}.lora_A.weight"].T)
    assert torch.equal(pair.b, raw[f"base_model.model.{LAYER}.lora_B.weight"].T * 3.0)


def test_another_base_is_refused_with_both_shapes(folder: Path) -> None:
    with pytest.raises(IncompatibleArtefactError, match=r"B \(32, 8\).* 64 inputs and 48 outputs"):
        load(folder, hidden_size=48)


def test_a_layer_the_base_lacks_is_named(folder: Path) -> None:
    with pytest.raises(IncompatibleArtefactError, match=r"model\.layers\.1"):
        load(folder, num_hidden_layers=1)


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"peft_type": "IA3"},
        {"modules_to_save": ["lm_head"]},
        {"lora_alpha": None},
    ],
    ids=str,
)
def test_other_kinds_of_adapter_are_refused(folder: Path, change: dict[str, object]) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IncompatibleArtefactError, match="plain LoRA"):
        load(folder)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_missing_and_torn_files_are_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IncompatibleArtefactError, match=name):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(NotFoundError, match=name):
        load(folder)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors[f"base_model.model.{LAYER}.lora_B.weight"][0, 0] = torch.nan
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(IncompatibleArtefactError, match="not a finite LoRA matrix"):
        load(folder)


def test_half_a_layer_is_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    del tensors[f"base_model.model.{LAYER}.lora_B.weight"]
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(IncompatibleArtefactError, match="lacks A or B"):
        load(folder)


def test_fusion_multiplies_the_means() -> None:
    generator = torch.Generator().manual_seed(0)

    def one(rank: int) -> LoraWeights:
        a, b = torch.randn(6, rank, generator=generator), torch.randn(rank, 5, generator=generator)
        return LoraWeights(pairs={"layer": LoraPair(a=a, b=b)})

    first, second = one(2), one(4)
    pair = fused([(first, 0.5), (second, 0.5)]).pairs["layer"]
    wide_a = torch.cat([first.pairs["layer"].a, torch.zeros(6, 2)], dim=1)
    wide_b = torch.cat([first.pairs["layer"].b, torch.zeros(2, 5)])
    expected = ((wide_a + second.pairs["layer"].a) / 2) @ ((wide_b + second.pairs["layer"].b) / 2)
    torch.testing.assert_close(pair.a @ pair.b, expected)
