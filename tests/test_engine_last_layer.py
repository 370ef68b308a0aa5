"""The last layer leaves out what nobody reads, and the asked columns stay what they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from retrieveall.engine.last_layer import LastLayer
from retrieveall.lora.layers import attach_lora
from tests.models import ARCHITECTURES, Architecture, exact_model

_TOKENS = 20


def hidden(model: Any) -> torch.Tensor:
    """Two rows, the second padded on the left."""
    ids = torch.arange(2 * _TOKENS).view(2, -1)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    states: torch.Tensor = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state
    return states


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_but_keys_and_values_is_narrowed(architecture: Architecture) -> None:
    model: Any = exact_model(architecture)
    attach_lora(model, skip=model.get_output_embeddings())
    names = {module: name for name, module in model.base_model.named_modules()}
    found = {names[module] for module in LastLayer(model.base_model).narrowed}
    assert found == {"layers.1.self_attn.q_proj", "layers.1.self_attn.o_proj", "layers.1.mlp"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("columns", [1, 8, 11, _TOKENS, _TOKENS + 1])
def test_asked_columns_stay_what_they_are(architecture: Architecture, columns: int) -> None:
    model = exact_model(architecture)
    before = hidden(model)
    layer = LastLayer(model.base_model)
    with torch.no_grad(), layer.only(columns):
        narrow = hidden(model)
    torch.testing.assert_close(narrow[:, -columns:], before[:, -columns:], rtol=1e-12, atol=1e-12)
    unread = _TOKENS - max(columns, 8)
    if unread > 0:
        assert not torch.allclose(narrow[:, :unread], before[:, :unread])
    torch.testing.assert_close(hidden(model), before)


def test_an_error_leaves_the_layer_whole() -> None:
    model = exact_model()
    layer, before = LastLayer(model.base_model), hidden(model)
    with pytest.raises(ZeroDivisionError), layer.only(1):
        raise ZeroDivisionError
    torch.testing.assert_close(hidden(model), before)


def test_a_model_without_a_list_of_layers_stays_whole() -> None:
    assert LastLayer(torch.nn.Linear(2, 2)).narrowed == []
