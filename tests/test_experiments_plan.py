"""Plans: what a file says, and what it must not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrieveall.errors import ConfigError, NotFoundError
from retrieveall.experiments.plan import Plan, read_plan

PLANS = sorted((Path(__file__).parents[1] / "benchmarks" / "plans").glob("*.yaml"))


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "name": "mini",
        "corpus": "sample",
        "languages": ("en",),
        "arms": {"a": {}, "b": {"examples": "neither", "recipe": {"epochs": 3}}},
        **changes,
    }
    return Plan(**values)


def test_an_arm_is_made_of_the_defaults_and_its_own_fields() -> None:
    made = plan(defaults={"rank": 8, "recipe": {"epochs": 1, "batch_rows": 4}})
    assert (made.arm("a").rank, made.arm("a").examples) == (8, "both")
    assert made.arm("b").recipe == {"epochs": 3, "batch_rows": 4}
    assert not made.arm("b").trains_with_examples and not made.arm("b").tests_with_examples


@pytest.mark.parametrize(
    ("shown", "trains", "tests"),
    [("both", True, True), ("train", True, False), ("test", False, True), ("neither", False, False)],
)
def test_where_prompts_show_examples(shown: str, trains: bool, tests: bool) -> None:
    arm = plan(arms={"a": {"examples": shown}}).arm("a")
    assert (arm.trains_with_examples, arm.tests_with_examples) == (trains, tests)


def test_without_pairs_the_first_arm_is_compared_with_each_other_one() -> None:
    assert plan().comparisons == (("a", "b"),)
    assert plan(compare=(("b", "a"),)).comparisons == (("b", "a"),)


WRONG: dict[str, dict[str, Any]] = {
    "expected at least one": {"arms": {}},
    "none twice": {"seeds": (1, 1)},
    "compare names c": {"compare": (("a", "c"),)},
    "unknown fields: rnak": {"arms": {"a": {"rnak": 8}}},
    "examples is 'some'": {"arms": {"a": {"examples": "some"}}},
    "holds a seed": {"arms": {"a": {"recipe": {"seed": 1}}}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_makes_no_sense_is_refused(message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**WRONG[message])


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_that_come_along_can_be_read(path: Path) -> None:
    found = read_plan(path)
    assert found.name == path.stem and found.comparisons


def test_files_that_are_no_plan_say_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "half.yaml").write_text("name: half\narms: {a: {}}\n")
    with pytest.raises(ConfigError, match="lacks corpus, languages"):
        read_plan(tmp_path / "half.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected an object"):
        read_plan(tmp_path / "list.yaml")
