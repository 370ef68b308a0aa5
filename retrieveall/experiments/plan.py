"""A plan of an experiment: arms × seeds over one corpus, as its YAML file says it.

name: examples
corpus: sample
languages: [en, es]
seeds: [0, 1, 2]
defaults: {train_limit: 100}        # of every arm, where it does not say otherwise
arms:
  both: {}
  neither: {examples: neither}
compare: [[both, neither]]          # does `both` beat `neither`?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retrieveall.config import parse_yaml
from retrieveall.errors import ConfigError, NotFoundError
from retrieveall.frozen import from_dict
from retrieveall.lora.card import StrategyName
from retrieveall.names import check_name
from retrieveall.types import Split

Shown = Literal["neither", "train", "test", "both"]
"""Where prompts show retrieved examples: in training, in testing, in both or in neither."""
ArmRouting = Literal["oracle", "linear", "vote", "centroid", "langid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """How one arm is trained and tested; None takes what the workspace's settings say.

    Attributes:
        shots: Of strategy ``leave_language_out``.
        train_limit: Training sentences per language; None for all. The index holds all of them in any case.
        examples: Where prompts show examples.
        routing: How adapters are chosen in the test.
        prior: Let the priors have their say in the test, at the weights on the adapters' cards, which were
            chosen with the prompts of training. Without them an arm is the papers' method.
        embedder: Of the indexes.
        entity_examples: n, most entity examples in a prompt.
        context_examples: m, most context examples in a prompt.
        threshold_std: λ of the dynamic threshold.
        rank: Of the LoRA; alpha is twice the rank unless `recipe` says otherwise.
        recipe: Other fields of `AdapterTrainingConfig`, such as ``{"epochs": 4}``; no seed.
    """

    strategy: StrategyName = "monolingual"
    shots: int | None = None
    train_limit: int | None = None
    examples: Shown = "both"
    routing: ArmRouting = "oracle"
    prior: bool = False
    embedder: str = "ngram"
    entity_examples: int | None = None
    context_examples: int | None = None
    threshold_std: float | None = None
    rank: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains_with_examples(self) -> bool:
        """Whether training prompts show examples."""
        return self.examples in ("train", "both")

    @property
    def tests_with_examples(self) -> bool:
        """Whether test prompts show examples."""
        return self.examples in ("test", "both")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A whole experiment.

    Attributes:
        name: Of the report's folder.
        languages: Trained and tested together, at least one.
        seeds: Of weights, order and dropped examples; the training sentences are the same for all.
        split: What is tagged.
        test_limit: Sentences of it per language, drawn the same way every time; None for all.
        dev_limit: Dev sentences per language for the F1 and the priors' weights on the adapters' cards.
        defaults: Fields of `Arm` for all arms.
        arms: By name the fields of `Arm` that differ; at least one.
        compare: Pairs (A, B) to be tested for "A beats B"; none: the first arm against each other one.
    """

    name: str
    corpus: str
    languages: tuple[str, ...]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0,)
    split: Split = "test"
    test_limit: int | None = None
    dev_limit: int = 100
    defaults: Mapping[str, Any] = field(default_factory=dict)
    compare: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "plan name")
        for what, values in (("languages", self.languages), ("seeds", self.seeds), ("arms", self.arms)):
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{what} is {list(values)}; expected at least one, none twice.")
        unknown = {name for pair in self.compare for name in pair} - self.arms.keys()
        if unknown:
            raise ConfigError(
                f"compare names {', '.join(sorted(unknown))}; the arms are {', '.join(self.arms)}."
            )
        for name in self.arms:
            self.arm(name)

    @property
    def comparisons(self) -> tuple[tuple[str, str], ...]:
        """The pairs (A, B) to be tested."""
        first, *others = self.arms
        return self.compare or tuple((first, other) for other in others)

    def arm(self, name: str) -> Arm:
        """Returns an arm, made of the defaults and of its own fields.

        Raises:
            ConfigError: A field is unknown or does not fit.
        """
        merged = {**self.defaults, **self.arms[name]}
        recipe = {**self.defaults.get("recipe", {}), **self.arms[name].get("recipe", {})}
        if "seed" in recipe:
            raise ConfigError(f"The recipe of arm {name!r} holds a seed. Name seeds of the plan: `seeds`.")
        return from_dict(Arm, {**merged, "recipe": recipe}, source=f"arm {name!r}")


def read_plan(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        NotFoundError: There is no such file.
        ConfigError: It is not YAML, or a field is unknown or does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"The plan {path} cannot be read ({error}). Name a YAML file.") from error
    values = parse_yaml(text, source=str(path))
    missing = {"name", "corpus", "languages", "arms"} - values.keys() if isinstance(values, dict) else None
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(sorted(missing))}; see benchmarks/plans/ for examples.")
    return from_dict(Plan, values, source=str(path))
