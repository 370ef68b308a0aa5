from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.config import (
    PromptConfig,
    RetrievalConfig,
    Settings,
    configured,
    parse_yaml,
    settings_from_dict,
    with_environment,
)
from retrieveall.engine.transformers_engine import EngineConfig
from retrieveall.errors import ConfigError
from retrieveall.prompting.hierarchical import DEFAULT_BUDGET_TOKENS
from retrieveall.retrieval.manifest import IndexOptions
from retrieveall.retrieval.neighbourhood import DEFAULT_LAMBDA, DEFAULT_M, DEFAULT_N
from retrieveall.routing.vote import DEFAULT_K
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.data import RenderConfig

_PROMPTS = st.builds(
    PromptConfig,
    entity_examples=st.integers(0, 16),
    context_examples=st.integers(0, 8),
    threshold_std=st.floats(-10, 10),
    budget_tokens=st.integers(64, 10_000),
)


@settings(max_examples=40)
@given(
    prompt=_PROMPTS,
    training=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
def test_settings_survive_yaml_and_dicts(prompt: PromptConfig, training: dict[str, Any]) -> None:
    made = Settings(prompt=prompt, training=training)
    assert settings_from_dict(made.to_dict()) == made
    assert settings_from_dict(yaml.safe_load(yaml.safe_dump(made.to_dict()))) == made


def test_what_is_missing_keeps_its_default() -> None:
    assert settings_from_dict({}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt: {entity_exampels: 3}", "unknown fields: prompt.entity_exampels"),
        ("promt: {}", "unknown fields: promt"),
        ("prompt: {entity_examples: many}", "prompt.entity_examples is 'many'"),
        ("prompt: {entity_examples: 99}", "prompt.entity_examples is 99, expected 0 to 16"),
        ("prompt: {budget_tokens: 1}", "expected at least 64"),
        ("retrieval: {routing: dice}", "routing"),
        ("retrieval: {routing_neighbours: 0}", "routing_neighbours is 0"),
        ("[1]", "expected an object"),
    ],
)
def test_what_does_not_fit_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_from_dict(parse_yaml(text, source="settings"))


@pytest.mark.parametrize("text", ["a: b: c", "!!python/object/apply:os.system [ls]"])
def test_what_is_no_plain_yaml_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"plan\.yaml is not valid YAML"):
        parse_yaml(text, source="plan.yaml")


def test_every_setting_has_an_environment_twin() -> None:
    environment = {
        "RETRIEVEALL_PROMPT_ENTITY_EXAMPLES": "8",
        "RETRIEVEALL_RETRIEVAL_ROUTING": "langid",
        "RETRIEVEALL_SHARDS_ROWS_PER_SHARD": "9",
        "RETRIEVEALL_ENGINE_MAX_BATCH_ROWS": "7",
        "RETRIEVEALL_TRAINING_LEARNING_RATE": "1e-4",
        "RETRIEVEALL_TRAIN_CORPUS": "a flag of the command line",
        "PATH": "/bin",
    }
    found = with_environment(Settings(), environment)
    assert found.prompt == PromptConfig(entity_examples=8)
    assert found.retrieval == RetrievalConfig(routing="langid")
    engine = configured(EngineConfig, found.engine, source="engine", base_model="tiny")
    assert engine == EngineConfig(base_model="tiny", max_batch_rows=7)
    assert configured(IndexOptions, found.shards, source="shards") == IndexOptions(rows_per_shard=9)
    training = configured(AdapterTrainingConfig, found.training, source="training", epochs=2, rank=None)
    assert training == AdapterTrainingConfig(learning_rate=1e-4, epochs=2)


@pytest.mark.parametrize("name", ["RETRIEVEALL_PROMPT_ENTITY_EXAMPELS", "RETRIEVEALL_RETRIEVAL_"])
def test_a_misspelt_twin_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="the environment has unknown fields"):
        with_environment(Settings(), {name: "1"})


def test_misspelt_component_settings_are_an_error() -> None:
    with pytest.raises(ConfigError, match="training has unknown fields: rnk"):
        configured(AdapterTrainingConfig, {"rnk": 8}, source="training")


def test_training_and_tagging_show_the_same_prompts_by_default() -> None:
    prompt, render = PromptConfig(), RenderConfig()
    assert (prompt.entity_examples, prompt.context_examples) == (
        render.entity_examples,
        render.context_examples,
    )
    assert (prompt.entity_examples, prompt.context_examples) == (DEFAULT_N, DEFAULT_M)
    assert prompt.threshold_std == DEFAULT_LAMBDA
    assert RetrievalConfig().routing_neighbours == DEFAULT_K
    assert prompt.budget_tokens == render.budget_tokens == DEFAULT_BUDGET_TOKENS
