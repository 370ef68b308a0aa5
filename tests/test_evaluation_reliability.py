"""What scores are worth: which entities are right, and the expected calibration error."""

from __future__ import annotations

import random

import pytest

from retrieveall.evaluation.language import evaluate
from retrieveall.evaluation.plots import plot_reliability
from retrieveall.evaluation.reliability import reliability_of, scored_entities
from retrieveall.evaluation.report import EvalReport
from retrieveall.types import Entity
from tests.annotated import annotated

SENTENCE = annotated("[Anna](PER) met [Boris](PER)")


def found(start_char: int, end_char: int, label: str, score: float) -> Entity:
    return Entity(start_char=start_char, end_char=end_char, label=label, text="", score=score)


ENTITIES = [
    found(0, 4, "PER", 0.9),
    found(0, 4, "PER", 0.8),
    found(9, 14, "LOC", 0.7),
    found(5, 8, "PER", 0.1),
]


def test_an_entity_is_right_once() -> None:
    assert scored_entities([SENTENCE], [ENTITIES]) == ([0.9, 0.8, 0.7, 0.1], [True, False, False, False])


def test_mentions_without_scores_are_left_out() -> None:
    assert scored_entities([SENTENCE], [list(SENTENCE.entities)]) == ([], [])
    assert reliability_of([], []) is None
    assert evaluate([SENTENCE], [list(SENTENCE.entities)]).reliability is None


def test_the_error_is_the_distance_of_each_tenth_by_its_entities() -> None:
    one = reliability_of([0.95, 0.95, 0.95, 1.0, 0.25], [True, True, False, True, False])
    assert one is not None
    assert [(b.entities, b.right) for b in one.bins] == [(1, 0.0), (4, 0.75)]
    assert one.ece == pytest.approx((0.25 + 4 * abs(0.9625 - 0.75)) / 5)


def test_scores_that_say_too_much_show() -> None:
    rng = random.Random(0)
    scores = [rng.random() for _ in range(4000)]
    honest = reliability_of(scores, [rng.random() < score for score in scores])
    boasting = reliability_of(scores, [rng.random() < score / 2 for score in scores])
    assert honest is not None and honest.ece < 0.03
    assert boasting is not None and boasting.ece == pytest.approx(0.25, abs=0.03)


def test_a_report_keeps_and_draws_it() -> None:
    report = EvalReport.of([evaluate([SENTENCE], [ENTITIES])])
    again = EvalReport.from_dict(report.to_dict(full=True))
    assert again.languages[0].reliability == report.languages[0].reliability is not None
    assert report.to_dict()["languages"]["en"]["reliability"]["ece"] > 0
    figure = plot_reliability(report)
    assert figure is not None and "ECE" in figure.axes[0].get_legend_handles_labels()[1][0]
    assert plot_reliability(EvalReport.of([evaluate([SENTENCE], [[]])])) is None
