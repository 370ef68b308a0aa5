"""Published adapters are measured again: with the priors of now, their weights as they were."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall.errors import NotFoundError
from retrieveall.lora.card import PRIOR_FORMAT, DevScores
from retrieveall.lora.gc import collect_garbage
from retrieveall.lora.peft_files import WEIGHTS_FILE
from retrieveall.models.digest import base_digest
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.remeasure import as_published, remeasure
from retrieveall.training.run import Device, Measured, measure_dev
from retrieveall.workspace import Workspace
from tests.models import save_tiny_adapter, save_tiny_base, tiny_model
from tests.stores import add_adapter, card
from tests.test_training_inputs import NOW, make_workspace, only

LATER = "2026-01-01T00:00:00+00:00"
LOW = DevScores(f1=0.0, f1_low=0.0, f1_high=0.0, sentences=6)
HIGH = DevScores(f1=1.0, f1_low=1.0, f1_high=1.0, sentences=6)


def publish(
    workspace: Workspace, folder: Path, *, dev: DevScores = LOW, prior_format: int | None = PRIOR_FORMAT
) -> str:
    """Publishes German that nobody trained, and English that was measured as `dev` says; returns English."""
    base = save_tiny_base(folder / "base")
    workspace.claim_base(str(base), base_digest(base))
    german, english = (only(workspace, languages=(code,)) for code in ("de", "en"))
    digest = base_digest(base)
    other = add_adapter(
        workspace, folder, language="de", labels=german.labels, base_digest=digest, base_model=str(base)
    )
    made = card(
        "en",
        base_model=str(base),
        base_digest=digest,
        labels=english.labels,
        corpus="sample",
        corpus_digest=english.data["en"].corpus_digest,
        index_digest=english.data["en"].index,
        embedder=english.embedder,
        embedder_digest=english.embedder_digest,
        prior_weights={"en": 1.0},
        prior_indexes={"en": english.prior_indexes["en"]},
        prior_format=prior_format,
        training=asdict(AdapterTrainingConfig(rank=8, alpha=16)),
        dev=dev,
    )
    adapter = workspace.pool.add(save_tiny_adapter(folder / "peft", tiny_model()), made)
    for code, spec, one in (("de", german, other), ("en", english, adapter)):
        workspace.releases.publish(code, one, spec.data[code].index, created_at=NOW)
    return adapter


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path, "de", "en")


def test_a_published_adapter_gets_a_new_card_and_keeps_its_weights(
    workspace: Workspace, tmp_path: Path
) -> None:
    before = publish(workspace, tmp_path)
    report = remeasure(workspace, Device(), created_at=LATER)
    by_language = {one.languages: one for one in report.adapters}
    assert "does not say how it was trained" in str(by_language[("de",)].reason)
    after = by_language[("en",)].after
    assert after is not None and after != before and report.release == 3 and not report.refused
    assert workspace.releases.current().languages["en"].adapter == after

    pool, made = workspace.pool, workspace.pool.get(after).card
    assert set(made.prior_indexes) == {"de", "en"} and made.trained_as == before
    assert made.dev is not None and made.dev.sentences == 6 and made.dev.f1 > 0
    assert (made.created_at, made.training) == (LATER, pool.get(before).card.training)
    read = [(pool.path(digest) / WEIGHTS_FILE).read_bytes() for digest in (before, after)]
    assert read[0] == read[1]

    again = remeasure(workspace, Device(), created_at=LATER, languages=["en"])
    assert [one.reason for one in again.adapters] == ["its prior shares with the same languages as before"]
    assert again.release is None and workspace.releases.current().number == 3


def test_what_would_be_worse_stays(workspace: Workspace, tmp_path: Path) -> None:
    before = publish(workspace, tmp_path, dev=HIGH)
    (one,) = remeasure(workspace, Device(), created_at=LATER, languages=["en"]).adapters
    assert (one.after, one.reason, one.dev_before) == (None, "it would be worse on dev in en", HIGH)
    assert one.dev is not None and one.dev.f1 < 1
    assert workspace.releases.current().languages["en"].adapter == before


@pytest.mark.parametrize("older", [None, PRIOR_FORMAT - 1])
def test_scores_of_a_prior_that_is_learned_otherwise_now_are_replaced(
    workspace: Workspace, tmp_path: Path, older: int | None
) -> None:
    before = publish(workspace, tmp_path, dev=HIGH, prior_format=older)
    (one,) = remeasure(workspace, Device(), created_at=LATER, languages=["en"]).adapters
    assert one.after is not None and one.after != before and one.dev is not None and one.dev.f1 < 1
    assert workspace.pool.get(one.after).card.prior_format == PRIOR_FORMAT
    (again,) = remeasure(workspace, Device(), created_at=LATER, languages=["en"]).adapters
    assert again.reason == "its prior shares with the same languages as before"


def test_a_prior_out_of_reach_is_not_taken_from_the_card(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = publish(workspace, tmp_path, prior_format=None)

    def unreadable(*_: Any) -> Any:
        raise OSError("no disk")

    monkeypatch.setattr("retrieveall.prior_weights.kept_prior", unreadable)
    (one,) = remeasure(workspace, Device(), created_at=LATER, languages=["en"]).adapters
    assert one.after is None and "the prior of en could not be learned" in str(one.reason)
    assert workspace.releases.current().languages["en"].adapter == before


def test_a_pin_holds(workspace: Workspace, tmp_path: Path) -> None:
    before = publish(workspace, tmp_path)
    workspace.releases.pin("en", before, created_at=NOW)
    report = remeasure(workspace, Device(), created_at=LATER, languages=["en"])
    assert [one.reason for one in report.adapters] == ["it is pinned"] and report.release is None
    assert workspace.releases.current().languages["en"].adapter == before


def test_what_was_published_meanwhile_is_left_in_place(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = publish(workspace, tmp_path)
    first = workspace.pool.get(before).card
    newer = workspace.pool.add(
        workspace.pool.path(before), replace(first, training={**first.training, "seed": 9})
    )

    def slow(*args: Any, **more: Any) -> Any:
        workspace.releases.publish("en", newer, first.index_digest, created_at=NOW)
        return measure_dev(*args, **more)

    monkeypatch.setattr("retrieveall.training.remeasure.measure_dev", slow)
    report = remeasure(workspace, Device(), created_at=LATER, languages=["en"])
    assert "meanwhile" in report.refused["en"] and report.release is None
    assert workspace.releases.current().languages["en"].adapter == newer


def test_a_prior_that_brings_nothing_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = publish(workspace, tmp_path)

    def without(*_: Any, **__: Any) -> Any:
        return {before: Measured(overall=HIGH)}

    monkeypatch.setattr("retrieveall.training.remeasure.measure_dev", without)
    report = remeasure(workspace, Device(), created_at=LATER, languages=["en"])
    assert [one.reason for one in report.adapters] == ["its prior brings nothing"] and report.release is None

    outdated = replace(workspace.pool.get(before).card, prior_format=None)
    before = workspace.pool.add(workspace.pool.path(before), outdated)
    workspace.releases.publish("en", before, outdated.index_digest, created_at=NOW)
    (one,) = remeasure(workspace, Device(), created_at=LATER, languages=["en"]).adapters
    assert one.after is not None
    made = workspace.pool.get(one.after).card
    assert (made.prior_weights, made.prior_indexes, made.prior_format) == ({}, {}, None)


def test_languages_that_are_not_published_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace, tmp_path)
    with pytest.raises(NotFoundError, match="'fr'"):
        remeasure(workspace, Device(), created_at=LATER, languages=["fr"])


def test_training_that_finds_the_adapter_finished_leaves_what_was_measured_again_in_place(
    workspace: Workspace, tmp_path: Path
) -> None:
    before = publish(workspace, tmp_path)
    release = workspace.releases.current()
    assert as_published(workspace, release, "en", before) == before
    assert as_published(workspace, release, "fr", before) == before
    remeasure(workspace, Device(), created_at=LATER)
    release = workspace.releases.current()
    assert as_published(workspace, release, "en", before) == release.languages["en"].adapter != before

    removed = collect_garbage(workspace, now_s=4e9, min_age_s=0, keep_releases=1).removed
    assert workspace.pool.has(before) and "adapter" not in {one.kind for one in removed}
