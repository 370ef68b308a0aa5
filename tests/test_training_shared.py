"""One pass over rows of several adapters gives each of them the gradient that PEFT gives it alone."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import nn

from retrieveall.errors import ConfigError
from retrieveall.lora.trained import TrainedLora
from retrieveall.prompting.codec import PromptCodec
from retrieveall.training.data import DecidedRow
from retrieveall.training.shared import Portion, SharedBase
from tests.models import ARCHITECTURES, Architecture, exact_model, tiny_model, tiny_tokenizer
from tests.trainings import make_base


def random_row(generator: torch.Generator) -> DecidedRow:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    target = draw(1, 7)
    steps = tuple(step for step in range(target) if draw(0, 3))
    allowed = [
        tuple(sorted(set(torch.randint(3, 300, (draw(2, 9),), generator=generator).tolist()))) for _ in steps
    ]
    kept = [(step, ids) for step, ids in zip(steps, allowed, strict=True) if len(ids) > 1]
    return DecidedRow(
        ids=tuple(torch.randint(3, 300, (draw(2, 40) + target,), generator=generator).tolist()),
        target_tokens=target,
        steps=tuple(step for step, _ in kept),
        allowed=tuple(ids for _, ids in kept),
        chosen=tuple(draw(0, len(ids)) for _, ids in kept),
    )


def random_portion(base: SharedBase, rank: int, rows: int, seed: int) -> Portion:
    generator = torch.Generator().manual_seed(seed)
    adapter = TrainedLora.new(
        base.shapes, rank=rank, alpha=3 * rank, seed=seed, dtype=base.dtype, device=base.device
    )
    with torch.no_grad():
        for _, b_OR in adapter.matrices.values():
            b_OR.copy_(torch.randn(b_OR.shape, generator=generator, dtype=b_OR.dtype) * 0.2)
    drawn = [random_row(generator) for _ in range(rows)]
    decisions = sum(len(row.steps) for row in drawn)
    return Portion(adapter=adapter, rows=drawn, weights=[1 / max(1, decisions)] * rows)


def peft_gradients(
    architecture: Architecture, portion: Portion, folder: Path
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one adapter, row by row through plain PEFT."""
    portion.adapter.save(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(exact_model(architecture), folder, is_trainable=True)
    total = 0.0
    for row, weight in zip(portion.rows, portion.weights, strict=True):
        logits_TV = model(input_ids=torch.tensor([row.ids])).logits[0]
        first = len(row.ids) - row.target_tokens - 1
        for step, allowed, chosen in zip(row.steps, row.allowed, row.chosen, strict=True):
            loss = -weight * logits_TV[first + step, list(allowed)].log_softmax(0)[chosen]
            loss.backward(retain_graph=True)
            total += float(loss.detach())
    gradients = {
        name.replace(".default", ""): p.grad
        for name, p in model.named_parameters()
        if p.requires_grad and p.grad is not None
    }
    return total, gradients


@settings(max_examples=12, phases=[Phase.explicit, Phase.generate])
@given(
    architecture=st.sampled_from(ARCHITECTURES),
    sizes=st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 4)), min_size=1, max_size=4),
    pass_tokens=st.sampled_from([1, 90, 10_000]),
    seed=st.integers(0, 10_000),
)
def test_gradients_are_those_of_plain_peft_alone(
    architecture: Architecture, sizes: list[tuple[int, int]], pass_tokens: int, seed: int
) -> None:
    """In float64, whatever ranks and rows the adapters have and however the rows are cut into passes."""
    base = make_base(exact_model(architecture), pass_tokens=pass_tokens)
    portions = [random_portion(base, rank, rows, seed + number) for number, (rank, rows) in enumerate(sizes)]
    losses = base.backward(portions)
    for portion, loss in zip(portions, losses, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            expected_loss, expected = peft_gradients(architecture, portion, Path(folder))
        assert loss == pytest.approx(expected_loss, abs=1e-9)
        for name, parameter in portion.adapter.parameters.items():
            wanted = expected.get(name, torch.zeros_like(parameter))
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-9, atol=1e-9)


def test_an_adapter_alone_and_among_others_has_the_same_nats() -> None:
    base = make_base(exact_model())
    portions = [random_portion(base, 4, 3, seed) for seed in range(3)]
    losses = base.backward(portions)
    for portion, loss in zip(portions, losses, strict=True):
        nats = base.nats(portion.adapter, portion.rows)
        assert nats * portion.weights[0] == pytest.approx(loss, rel=1e-12)


def test_a_base_in_bfloat16_trains_float32_matrices() -> None:
    base = make_base(tiny_model(dtype=torch.bfloat16))
    portion = random_portion(base, 4, 3, 0)
    (loss,) = base.backward([portion])
    assert loss > 0
    for parameter in portion.adapter.parameters.values():
        assert parameter.grad is not None
        assert parameter.dtype == parameter.grad.dtype == torch.float32


def test_a_base_without_linear_layers_is_refused() -> None:
    model = tiny_model()
    for layer in model.model.layers:
        layer.self_attn, layer.mlp = nn.Identity(), nn.Identity()
    with pytest.raises(ConfigError, match="no linear layers"):
        SharedBase(model, PromptCodec(tiny_tokenizer()), pad_id=0, pass_tokens=100, pass_cost=32)
