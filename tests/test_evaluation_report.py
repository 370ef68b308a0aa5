from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.evaluation.language import LanguageReport, evaluate
from retrieveall.evaluation.report import EvalReport, read_report, write_report
from retrieveall.evaluation.unseen import SeenInTraining
from tests.annotated import annotated, found, noisy_run

CONTRACT = {"f1", "f1_low", "f1_high", "precision", "recall", "labels", "routing_accuracy", "f1_unseen"}
CONTRACT |= {"f1_detokenised", "sentences"}


def language_report(language: str, *, keep: float = 0.7, seed: int = 1) -> LanguageReport:
    gold, predicted = noisy_run(language, sentences=60, keep=keep, seed=seed)
    return evaluate(
        gold,
        predicted,
        seen=SeenInTraining.of([annotated("[Anna](PER)")]),
        routed_languages=[language] * 59 + [None],
        detokenised=(gold, predicted),
    )


@functools.cache
def full_report(*, synthetic: bool = False) -> EvalReport:
    return EvalReport.of(
        [language_report("en"), language_report("de", keep=0.9)],
        sentences_per_s=12.5,
        release=7,
        synthetic=synthetic,
        settings={"routing": "vote", "n": 8},
    )


def test_printed_object_is_the_contract() -> None:
    printed = json.loads(json.dumps(full_report().to_dict()))
    assert {"macro_f1", "languages", "sentences_per_s", "release"} <= set(printed)
    assert list(printed["languages"]) == ["en", "de"]
    for one in printed["languages"].values():
        assert set(one) >= CONTRACT
        assert 0 <= one["f1_low"] <= one["f1"] <= one["f1_high"] <= 1
        assert one["f1_detokenised"] == one["f1"]
        assert one["routing_accuracy"] == 59 / 60
        assert set(one["labels"]) == {"LOC", "PER"}
        assert one["sentences"] == 60 and one["seen_share"] == 0
        assert "worst" not in one
    assert printed["macro_f1"] == sum(one["f1"] for one in printed["languages"].values()) / 2
    assert printed["macro"]["strict"]["low"] < printed["macro_f1"] < printed["macro"]["strict"]["high"]
    assert printed["release"] == 7


def test_what_was_not_measured_is_null() -> None:
    gold, predicted = noisy_run("en", sentences=5, keep=0.7, seed=1)
    printed = EvalReport.of([evaluate(gold, predicted)]).to_dict()["languages"]["en"]
    assert [printed[key] for key in ("f1_unseen", "f1_detokenised", "routing_accuracy")] == [None] * 3
    assert printed["seen_share"] is None


def test_the_share_of_sentences_that_stand_in_train() -> None:
    gold = [annotated(f"[{name}](PER) left .") for name in ("Anna", "Boris", "Cem", "Anna")]
    seen = SeenInTraining.of([annotated("Anna  left .")])
    assert evaluate(gold, [[]] * 4, seen=seen).seen_share == 0.5


def test_file_round_trip(tmp_path: Path) -> None:
    report = full_report(synthetic=True)
    write_report(report, tmp_path / "runs" / "report.json")
    assert read_report(tmp_path / "runs" / "report.json") == report
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["report.json"]


def test_lone_surrogates_survive_the_file(tmp_path: Path) -> None:
    sentence = annotated("[Anna](PER) \ud800 .")
    report = EvalReport.of([evaluate([sentence], [[found(sentence, "\ud800", "LOC")]])])
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_macro_only_where_every_language_has_the_view() -> None:
    gold, predicted = noisy_run("fr", sentences=5, keep=0.7, seed=1)
    report = EvalReport.of([language_report("en"), evaluate(gold, predicted)])
    assert set(report.macro) == {"strict", "set_metric"}


def test_synthetic_and_too_good_scores_carry_a_note() -> None:
    assert any("synthetic" in note for note in full_report(synthetic=True).to_dict()["notes"])
    perfect = EvalReport.of([language_report("en", keep=1.0)])
    assert any("audit" in note for note in perfect.notes)
    assert full_report().notes == ()


def test_other_format_version_is_refused() -> None:
    saved = full_report().to_dict(full=True) | {"format_version": 99}
    with pytest.raises(IncompatibleArtefactError, match="99, this code reads 1"):
        EvalReport.from_dict(saved)


@pytest.mark.parametrize("broken", [{"languages": {"en": {}}}, {"languages": []}, {"macro": None}])
def test_broken_report_is_a_clear_error(broken: dict[str, object]) -> None:
    saved = full_report().to_dict(full=True) | broken
    with pytest.raises(InputError, match="report cannot be read"):
        EvalReport.from_dict(saved)


def test_wrong_type_is_a_clear_error() -> None:
    saved = full_report().to_dict(full=True)
    saved["languages"]["en"]["scores"]["strict"]["f1"] = "high"
    with pytest.raises(InputError, match="report cannot be read"):
        EvalReport.from_dict(saved)


def test_missing_file_and_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="retrieveall eval"):
        read_report(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="JSON list"):
        read_report(tmp_path / "list.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_report(tmp_path / "text.json")


def test_languages_must_be_there_once() -> None:
    one = language_report("en")
    with pytest.raises(InputError, match="each once"):
        EvalReport.of([])
    with pytest.raises(InputError, match="each once"):
        EvalReport.of([one, replace(one)])
