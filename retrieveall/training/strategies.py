"""Which adapters a training makes, from which languages, and what each starts from.

A strategy is a plan, not a loop: stages run one after the other, the adapters of a stage side by
side, and an adapter may continue one of an earlier stage. Source: Sources of Transfer in
Multilingual NER (monolingual, polyglot, polyglot then monolingual, leave one language out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from retrieveall.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterPlan:
    """One adapter to train.

    Attributes:
        language: Whose adapter it will be; ``mul`` for one of several languages.
        train_languages: Whose training splits it sees.
        continues: Language of an earlier stage's adapter to start from, None for a fresh one.
    """

    language: str
    train_languages: tuple[str, ...]
    continues: str | None = None


class Strategy(Protocol):
    """Turns languages into stages of adapters."""

    name: str

    def stages(self, languages: Sequence[str]) -> tuple[tuple[AdapterPlan, ...], ...]:
        """Returns the stages in order; the plans of one stage are independent."""
        ...


class Monolingual:
    """One fresh adapter per language, on its own training split alone."""

    name = "monolingual"

    def stages(self, languages: Sequence[str]) -> tuple[tuple[AdapterPlan, ...], ...]:
        """Returns a single stage."""
        return (tuple(AdapterPlan(language=code, train_languages=(code,)) for code in languages),)


STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (Monolingual(),)}


def strategy_named(name: str) -> Strategy:
    """Returns a strategy.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"Strategy {name!r} was given, known are: {', '.join(sorted(STRATEGIES))}.")
    return STRATEGIES[name]
