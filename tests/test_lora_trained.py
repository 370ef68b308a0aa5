"""A trained LoRA begins as PEFT's, and what is saved of it is plain PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from retrieveall.lora.layers import attach_lora
from retrieveall.lora.peft_files import check_peft_files
from retrieveall.lora.trained import TrainedLora, TrainingPlan
from tests.models import ARCHITECTURES, Architecture, tiny_model

CPU = torch.device("cpu")


def new(architecture: Architecture, *, rank: int = 8, seed: int = 3) -> TrainedLora:
    base: Any = tiny_model(architecture)
    _, shapes = attach_lora(base, skip=base.get_output_embeddings())
    return TrainedLora.new(shapes, rank=rank, alpha=16, seed=seed, dtype=torch.float32, device=CPU)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_weights_are_pefts(architecture: Architecture) -> None:
    torch.manual_seed(3)
    wrapped = get_peft_model(
        tiny_model(architecture),
        LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    theirs = {name.replace(".default", ""): p for name, p in wrapped.named_parameters() if p.requires_grad}
    mine = new(architecture).parameters
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], p) for name, p in theirs.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_peft_reads_every_adapter_of_a_batch_alike(architecture: Architecture, tmp_path: Path) -> None:
    adapters = [new(architecture, rank=rank, seed=rank) for rank in (8, 16)]
    generator = torch.Generator().manual_seed(0)
    for adapter in adapters:
        for _, b_OR in adapter.matrices.values():
            b_OR.data.copy_(torch.randn(b_OR.shape, generator=generator) * 0.2)
    base: Any = tiny_model(architecture)
    switch, _ = attach_lora(base, skip=base.get_output_embeddings())
    ids = torch.randint(5, 200, (3, 20), generator=generator)
    switch.plan = TrainingPlan([(adapters[0], 1), (adapters[1], 2)])
    with torch.no_grad():
        found = base(input_ids=ids).logits
    for number, rows in enumerate((slice(0, 1), slice(1, 3))):
        folder = tmp_path / str(number)
        adapters[number].save(folder)
        assert {path.name for path in folder.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        assert check_peft_files(folder, base_model="tiny").config["target_modules"]
        plain = PeftModel.from_pretrained(tiny_model(architecture), folder).eval()
        with torch.no_grad():
            torch.testing.assert_close(found[rows], plain(input_ids=ids[rows]).logits)
