from __future__ import annotations

from dataclasses import replace

import pytest

from retrieveall.errors import InputError
from retrieveall.evaluation.language import digest_of_sentences, evaluate
from retrieveall.evaluation.unseen import SeenInTraining
from tests.annotated import annotated, found, noisy_run

GOLD = [annotated("[Anna](PER) lives in [Oslo](LOC) ."), annotated("[Olaf](PER) left .")]
PREDICTED = [[found(GOLD[0], "Anna", "PER")], [found(GOLD[1], "Olaf", "PER")]]


def test_scores_by_hand() -> None:
    report = evaluate(
        GOLD,
        PREDICTED,
        seen=SeenInTraining.of([replace(GOLD[0], split="train")]),
        routed_languages=["en", None],
        detokenised=([annotated("[Olaf](PER) left.")], [[]]),
    )
    assert report.strict.f1 == pytest.approx(0.8)
    assert {label: score.f1 for label, score in report.labels.items()} == {"LOC": 0.0, "PER": 1.0}
    assert (report.scores["unseen"].f1, report.scores["unseen"].sentences) == (1.0, 1)
    assert report.scores["unseen_names"].support == 1
    assert report.scores["detokenised"].f1 == 0.0
    assert report.routing is not None
    assert (report.routing.accuracy, dict(report.routing.routed)) == (0.5, {"en": 1, "unknown": 1})
    assert report.counts_of("strict").tolist() == [[1, 0, 1], [1, 0, 0]]
    assert report.mistakes["missed"] == 1


def test_views_that_cannot_be_measured_are_left_out() -> None:
    report = evaluate(GOLD, PREDICTED)
    assert set(report.scores) == {"strict", "set_metric"}
    all_seen = evaluate(GOLD, PREDICTED, seen=SeenInTraining.of(GOLD))
    assert set(all_seen.scores) == {"strict", "set_metric"}
    with pytest.raises(InputError, match="has no unseen scores"):
        report.counts_of("unseen")


def test_intervals_hold_the_value_and_repeat() -> None:
    gold, predicted = noisy_run("en", sentences=200, keep=0.7, seed=1)
    report = evaluate(gold, predicted, seed=3)
    assert report.strict.f1_low < report.strict.f1 < report.strict.f1_high
    assert report == evaluate(gold, predicted, seed=3)


def test_digest_tells_test_sets_apart() -> None:
    assert digest_of_sentences(GOLD) == digest_of_sentences(list(GOLD))
    assert digest_of_sentences(GOLD) != digest_of_sentences(GOLD[::-1])


def test_one_language_at_a_time() -> None:
    with pytest.raises(InputError, match="de, en"):
        evaluate([GOLD[0], annotated("Haus", language="de")], [[], []])
    with pytest.raises(InputError, match="0 sentences have none"):
        evaluate([], [])


def test_routed_languages_must_be_one_per_sentence() -> None:
    with pytest.raises(InputError, match="2 sentences but 1 routed"):
        evaluate(GOLD, PREDICTED, routed_languages=["en"])
