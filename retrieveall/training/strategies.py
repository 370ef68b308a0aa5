"""Which adapters a training makes, from which languages, and what each starts from.

A strategy is a plan, not a loop: stages run one after the other, the adapters of a stage side by
side, and an adapter may continue one of an earlier stage. Every strategy shows an adapter each language's
training split about as often, so that strategies are compared at equal training tokens: the two stages of
`polyglot_then_monolingual` have half of the passes each, those of `leave_language_out`, which see different
languages, have all. Source: Sources of Transfer in Multilingual NER; the shares of passes and learning rate
are our own choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, get_args

from retrieveall.errors import ConfigError, InputError
from retrieveall.languages import POLYGLOT
from retrieveall.lora.card import StrategyName
from retrieveall.training.adapter import AdapterTrainingConfig

_HALF = 0.5
_CONTINUED_RATE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterPlan:
    """One adapter to train.

    Attributes:
        language: Whose adapter it will be; ``mul`` for one of several languages.
        train_languages: Whose training splits it sees, at least one.
        measured_on: Whose dev splits it is measured on: those it sees, and those it is to be judged by.
        serves: Languages that it is to answer for; none for what is only continued.
        continues: The plan of an earlier stage whose adapter it starts from, None for a fresh one.
        shots: Most training sentences per language, None for as many as the user allows.
        pass_share: Of the recipe's passes over the data.
        rate_share: Of the recipe's peak learning rate.
    """

    language: str
    train_languages: tuple[str, ...]
    measured_on: tuple[str, ...]
    serves: tuple[str, ...]
    continues: AdapterPlan | None = None
    shots: int | None = None
    pass_share: float = 1.0
    rate_share: float = 1.0

    def recipe(self, config: AdapterTrainingConfig) -> AdapterTrainingConfig:
        """Returns the plan's share of a recipe."""
        rate = config.learning_rate * self.rate_share
        return replace(config, pass_share=self.pass_share, learning_rate=rate)


Stages = tuple[tuple[AdapterPlan, ...], ...]


class Strategy(Protocol):
    """Turns languages into stages of adapters."""

    def stages(self, languages: Sequence[str]) -> Stages:
        """Returns the stages in order; the plans of one stage are independent.

        Raises:
            InputError: The strategy needs more languages.
        """
        ...


class Monolingual:
    """One fresh adapter per language, on its own training split alone."""

    def stages(self, languages: Sequence[str]) -> Stages:
        """Returns a single stage."""
        return (tuple(map(_own, languages)),)


class Polyglot:
    """One adapter for all languages, on all their training splits."""

    def stages(self, languages: Sequence[str]) -> Stages:
        """Returns a single stage of a single plan."""
        shared = _polyglot(languages, measured_on=languages)
        return ((replace(shared, serves=tuple(languages)),),)


class PolyglotThenMonolingual:
    """A polyglot adapter, continued for each language on its own training split."""

    def stages(self, languages: Sequence[str]) -> Stages:
        """Returns the polyglot stage and that of the languages, half of the passes each."""
        shared = replace(_polyglot(languages, measured_on=languages), pass_share=_HALF)
        return ((shared,), tuple(replace(_continued(shared, code), pass_share=_HALF) for code in languages))


@dataclass(frozen=True, slots=True)
class LeaveLanguageOut:
    """For each language a polyglot adapter that never saw it, continued on a few of its sentences.

    Attributes:
        shots: How many; 0 continues nothing, None takes all there are.
    """

    shots: int | None = None

    def stages(self, languages: Sequence[str]) -> Stages:
        """Returns the polyglot stage, one adapter per language left out, and that of the languages."""
        shared = {
            code: _polyglot([one for one in languages if one != code], measured_on=languages)
            for code in languages
        }
        if self.shots == 0:
            return (tuple(replace(plan, serves=(code,)) for code, plan in shared.items()),)
        continued = (replace(_continued(plan, code), shots=self.shots) for code, plan in shared.items())
        return (tuple(shared.values()), tuple(continued))


def _own(language: str) -> AdapterPlan:
    only = (language,)
    return AdapterPlan(language=language, train_languages=only, measured_on=only, serves=only)


def _continued(shared: AdapterPlan, language: str) -> AdapterPlan:
    return replace(_own(language), continues=shared, rate_share=_CONTINUED_RATE)


def _polyglot(languages: Sequence[str], *, measured_on: Sequence[str]) -> AdapterPlan:
    if len(languages) < 2:
        raise InputError(
            f"A polyglot adapter of {list(languages)} was asked for; expected two or more languages."
            " Name more, or train with `--strategy monolingual`."
        )
    return AdapterPlan(
        language=POLYGLOT,
        train_languages=tuple(languages),
        measured_on=tuple(measured_on),
        serves=(),
    )


def strategy_named(name: str, *, shots: int | None = None) -> Strategy:
    """Returns a strategy.

    Args:
        name: One of `StrategyName`.
        shots: Sentences of the language left out, for ``leave_language_out`` alone.

    Raises:
        ConfigError: There is none of that name, or it takes no shots.
    """
    names = get_args(StrategyName)
    if name not in names:
        raise ConfigError(f"Strategy {name!r} was given, known are: {', '.join(names)}.")
    if shots is not None and name != "leave_language_out":
        raise ConfigError(
            f"{shots} shots were given for strategy {name!r}; only leave_language_out takes shots."
            " Limit the training sentences of the others with --train-limit."
        )
    if shots is not None and shots < 0:
        raise ConfigError(f"{shots} shots were given; expected 0 or more.")
    strategies: dict[StrategyName, Strategy] = {
        "monolingual": Monolingual(),
        "polyglot": Polyglot(),
        "polyglot_then_monolingual": PolyglotThenMonolingual(),
        "leave_language_out": LeaveLanguageOut(shots),
    }
    return strategies[cast(StrategyName, name)]
