"""Strategies are plans: stages of adapters."""

from __future__ import annotations

from typing import get_args

import pytest

from retrieveall.errors import ConfigError, InputError
from retrieveall.lora.card import StrategyName
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.strategies import AdapterPlan, strategy_named

LANGUAGES = ("de", "nl", "ru")


def plans(name: str, **options: int) -> list[AdapterPlan]:
    return [plan for stage in strategy_named(name, **options).stages(LANGUAGES) for plan in stage]


def test_monolingual_trains_each_language_on_itself_in_one_stage() -> None:
    (stage,) = strategy_named("monolingual").stages(["de", "nl"])
    assert [(plan.language, plan.train_languages, plan.serves) for plan in stage] == [
        ("de", ("de",), ("de",)),
        ("nl", ("nl",), ("nl",)),
    ]


def test_polyglot_trains_one_adapter_that_answers_for_all() -> None:
    (plan,) = plans("polyglot")
    assert (plan.language, plan.train_languages, plan.serves) == ("mul", LANGUAGES, LANGUAGES)


def test_polyglot_then_monolingual_shares_the_passes_and_publishes_the_second_stage_alone() -> None:
    shared, *own = plans("polyglot_then_monolingual")
    recipe = AdapterTrainingConfig(learning_rate=2e-3)

    assert shared.serves == () and [plan.serves for plan in own] == [(code,) for code in LANGUAGES]
    assert all(plan.continues == shared and plan.train_languages == plan.serves for plan in own)
    assert shared.recipe(recipe).pass_share + own[0].recipe(recipe).pass_share == 1
    assert own[0].recipe(recipe).learning_rate < shared.recipe(recipe).learning_rate == 2e-3


def test_a_language_left_out_is_seen_only_in_its_shots() -> None:
    *shared, de, nl, ru = plans("leave_language_out", shots=10)
    assert [plan.train_languages for plan in shared] == [("nl", "ru"), ("de", "ru"), ("de", "nl")]
    assert [plan.measured_on for plan in shared] == [LANGUAGES] * 3
    assert [plan.continues for plan in (de, nl, ru)] == shared
    assert {plan.shots for plan in (de, nl, ru)} == {10} and {plan.shots for plan in shared} == {None}


def test_without_shots_the_others_answer_for_the_language_left_out() -> None:
    alone = plans("leave_language_out", shots=0)
    assert [plan.serves for plan in alone] == [("de",), ("nl",), ("ru",)]
    assert all(plan.serves[0] not in plan.train_languages for plan in alone)


@pytest.mark.parametrize("name", get_args(StrategyName))
def test_every_adapter_continues_only_what_an_earlier_stage_made(name: str) -> None:
    made: set[AdapterPlan] = set()
    for stage in strategy_named(name).stages(LANGUAGES):
        assert {plan.continues for plan in stage} - {None} <= made
        assert len(set(stage)) == len(stage)
        assert all(set(plan.train_languages) | set(plan.serves) <= set(plan.measured_on) for plan in stage)
        made |= set(stage)


@pytest.mark.parametrize("name", ["polyglot", "polyglot_then_monolingual", "leave_language_out"])
def test_one_language_alone_shares_nothing(name: str) -> None:
    with pytest.raises(InputError, match="expected two or more languages"):
        strategy_named(name).stages(["de"])


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'best' was given, known are: .*monolingual"):
        strategy_named("best")


def test_shots_are_for_languages_left_out_alone() -> None:
    with pytest.raises(ConfigError, match="only leave_language_out takes shots"):
        strategy_named("polyglot", shots=10)
    with pytest.raises(ConfigError, match="expected 0 or more"):
        strategy_named("leave_language_out", shots=-1)
