"""Strategies are plans: stages of adapters."""

from __future__ import annotations

import pytest

from retrieveall.errors import ConfigError
from retrieveall.training.strategies import STRATEGIES, AdapterPlan, strategy_named


def test_monolingual_trains_each_language_on_itself_in_one_stage() -> None:
    assert strategy_named("monolingual").stages(["de", "nl"]) == (
        (
            AdapterPlan(language="de", train_languages=("de",)),
            AdapterPlan(language="nl", train_languages=("nl",)),
        ),
    )


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_adapter_continues_only_what_an_earlier_stage_made(name: str) -> None:
    made: set[str] = set()
    for stage in STRATEGIES[name].stages(["de", "nl", "ru"]):
        assert {plan.continues for plan in stage} - {None} <= made
        assert len({plan.language for plan in stage}) == len(stage)
        made |= {plan.language for plan in stage}


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'best' was given, known are: .*monolingual"):
        strategy_named("best")
