"""The settings of the product in one place, their defaults, and where others may come from.

Later sources win: the defaults here, ``settings:`` in the workspace's ``retrieveall.yaml``, the
environment (``RETRIEVEALL_<SECTION>_<FIELD>``, such as ``RETRIEVEALL_PROMPT_ENTITY_EXAMPLES=8``), flags
of the command line. What is fixed by an artefact (labels, the embedder of an index) is no setting.
The default values are our own choice; the papers name none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import yaml

from retrieveall.errors import ConfigError
from retrieveall.frozen import from_dict, to_dict

T = TypeVar("T")

ENVIRONMENT_PREFIX = "RETRIEVEALL_"

Routing = Literal["linear", "vote", "centroid", "langid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """What a prompt may hold, in training and at test time alike.

    Attributes:
        entity_examples: n of the paper, most entity examples.
        context_examples: m of the paper, most context examples.
        threshold_std: λ of the dynamic threshold τ = mean + λ·std over a query's candidates.
        budget_tokens: Longest prompt.
    """

    entity_examples: int = 8
    context_examples: int = 1
    threshold_std: float = 1.0
    budget_tokens: int = 512

    def __post_init__(self) -> None:
        _require("prompt.entity_examples", self.entity_examples, 0 <= self.entity_examples <= 16, "0 to 16")
        _require("prompt.context_examples", self.context_examples, 0 <= self.context_examples <= 8, "0 to 8")
        _require("prompt.threshold_std", self.threshold_std, abs(self.threshold_std) <= 10, "-10 to 10")
        _require("prompt.budget_tokens", self.budget_tokens, self.budget_tokens >= 64, "at least 64")


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalConfig:
    """How sentences find their adapter and their examples.

    Attributes:
        embedder: What new indexes are made with, as `retrieveall index --embedder` takes it.
        routing: Which router chooses the adapter.
        routing_neighbours: k of the vote.
        prior_weight: The power to which the prior's probabilities count in decoding, 0 for no prior; None
            takes what each adapter was best with on dev.
    """

    embedder: str = "ngram"
    routing: Routing = "linear"
    routing_neighbours: int = 20
    prior_weight: float | None = None

    def __post_init__(self) -> None:
        weight = self.prior_weight
        _require("retrieval.prior_weight", weight, weight is None or 0 <= weight <= 10, "0 to 10")
        _require(
            "retrieval.routing_neighbours", self.routing_neighbours, self.routing_neighbours >= 1, ">= 1"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings of one process or job.

    Engine, training and index files own their configurations (`EngineConfig`, `AdapterTrainingConfig`,
    `IndexOptions`) with their defaults; here stands what differs from those, and `configured` makes
    the whole.

    Attributes:
        shards: Fields of new indexes' options, such as ``{"rows_per_shard": 100000}``.
        engine: Fields of the engine's configuration, such as ``{"max_batch_rows": 64}``.
        training: Fields of the training's configuration, such as ``{"rank": 16}``.
    """

    prompt: PromptConfig = field(default_factory=PromptConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    shards: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as JSON values."""
        return to_dict(self)


def configured(kind: type[T], settings: Mapping[str, Any], *, source: str, **fixed: Any) -> T:
    """Makes a component's configuration from its defaults, the settings, and what the caller fixes.

    Args:
        kind: The component's frozen dataclass, such as `AdapterTrainingConfig`.
        settings: Such as ``Settings.training``; texts from the environment become numbers.
        source: Names the settings in messages.
        fixed: Fields that win over the settings; None leaves a field alone.

    Raises:
        ConfigError: An unknown field, a wrong type, or a value out of range.
    """
    given = {name: value for name, value in fixed.items() if value is not None}
    return from_dict(kind, {**settings, **given}, source=source)


def settings_from_dict(values: Any, *, source: str = "settings") -> Settings:
    """Makes settings from nested mappings; what is missing keeps its default.

    Raises:
        ConfigError: An unknown name, a wrong type, or a value out of range.
    """
    return from_dict(Settings, values, source=source)


def with_environment(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Returns the settings with what the environment sets.

    Args:
        settings: What stands so far.
        environment: Such as ``os.environ``.

    Raises:
        ConfigError: A variable of a section names no field, or its value does not fit.
    """
    values = settings.to_dict()
    for name, text in environment.items():
        found = _twin(name)
        if found is not None:
            section, setting = found
            values[section][setting] = text
    return settings_from_dict(values, source="the environment")


def parse_yaml(text: str, *, source: str) -> Any:
    """Parses YAML as plain data.

    Raises:
        ConfigError: It is not YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None


def _twin(name: str) -> tuple[str, str] | None:
    """Returns section and field of an environment variable, None where it belongs to no section."""
    for section in (setting.name for setting in dataclasses.fields(Settings)):
        prefix = f"{ENVIRONMENT_PREFIX}{section.upper()}_"
        if name.startswith(prefix):
            return section, name.removeprefix(prefix).lower()
    return None


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r}, expected {expected}.")
