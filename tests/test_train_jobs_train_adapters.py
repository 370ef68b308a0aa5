"""Adapter training: the pure parts here, the fan-out over Ray and what a kill leaves in the slow tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus.sample import sample_corpus
from retrieveall.frozen import to_dict
from retrieveall.lora.card import DevScores, LanguageData, check_card
from retrieveall.lora.releases import Publication
from retrieveall.models.digest import base_digest
from retrieveall.storage import Store
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.cards import adapter_card
from retrieveall.training.inputs import RunSpec
from retrieveall.training.planning import TrainingChoice, plan_specs
from retrieveall.training.run import Measured
from retrieveall.workspace import Workspace
from tests.models import save_tiny_adapter, save_tiny_base, tiny_model
from tests.processes import wait_for_worker
from tests.runs import SPEC
from tests.stores import CORPUS, add_adapter, dev

train_jobs = pytest.importorskip("train_jobs.train_adapters")

NOW = "2026-01-01T00:00:00+00:00"


def outcome(language: str = "nl", **fields: Any) -> Any:
    return train_jobs.TrainOutcome(language=language, run=f"{language}-run", **fields)


def published(workspace: Workspace, *outcomes: Any, force: bool = False) -> Any:
    wishes = [
        Publication(language=one.language, adapter=one.adapter, index=None)
        for one in outcomes
        if one.adapter is not None
    ]
    return train_jobs._published(workspace, train_jobs.TrainReport(outcomes=outcomes), wishes, force)


def test_the_card_says_what_the_run_was_made_of() -> None:
    scores = DevScores(f1=0.5, f1_low=0.4, f1_high=0.6, sentences=50)
    card = adapter_card(SPEC, Measured(overall=scores), created_at=NOW)

    check_card(card)
    assert (card.language, card.labels, card.synthetic, card.licence) == ("nl", ("LOC", "PER"), True, "CC0")
    assert (card.index_digest, card.embedder_digest) == ("1" * 16, SPEC.embedder_digest)
    assert (card.entity_examples, card.context_examples, card.threshold_std) == (3, 1, 0.5)
    assert (card.training["rank"], card.training["train_limit"]) == (16, 100)
    assert card.dev == scores and not card.sources


def test_the_card_of_a_polyglot_adapter_holds_the_data_and_the_scores_of_each_language() -> None:
    german = LanguageData(corpus="other", corpus_digest="3" * 16, index="4" * 16)
    spec = replace(
        SPEC, language="mul", data={**SPEC.data, "de": german}, train_languages=("nl", "de"), serves=()
    )
    measured = Measured(overall=dev(0.5), by_language={"nl": dev(0.4), "de": dev(0.6)})
    card = adapter_card(spec, measured, created_at=NOW)

    check_card(card)
    assert (card.language, card.corpus, card.index_digest) == ("mul", "other+panx", None)
    assert (card.index_for("nl"), card.index_for("de")) == ("1" * 16, "4" * 16)
    assert (card.dev_for("nl"), card.dev_for("de"), card.dev_for("fr")) == (dev(0.4), dev(0.6), None)
    assert card.corpus_digest not in (CORPUS, german.corpus_digest)
    assert spec.title == "mul (nl de)"


def test_a_finished_adapter_is_taken_up_as_long_as_the_pool_has_it(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    digest = add_adapter(workspace, tmp_path, language="nl")
    run = workspace.run(SPEC.run_name)
    assert train_jobs._kept(workspace, SPEC) is None
    run.write_json(train_jobs.RESULT, outcome(adapter=digest, seconds=9.0).to_dict())
    kept = train_jobs._kept(workspace, SPEC)
    assert kept is not None and (kept.adapter, kept.reused, kept.seconds) == (digest, True, 0.0)
    run.write_json(train_jobs.RESULT, outcome(adapter="0" * 16).to_dict())
    assert train_jobs._kept(workspace, SPEC) is None


def test_what_failed_in_a_pack_fails_alone(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    bad = replace(SPEC, language="de")
    lost = replace(SPEC, language="fr")
    save_tiny_adapter(tmp_path / "end" / SPEC.run_name, tiny_model(), rank=16)
    broken = tmp_path / "end" / lost.run_name
    broken.mkdir()
    (broken / "adapter_config.json").write_text("{")
    endings = {
        SPEC.run_name: {
            "error": None,
            "dev": to_dict(Measured(overall=dev(0.5), prior_weights={"nl": 1.0})),
            "tokens": 7,
            "prior_indexes": {"nl": "0" * 16},
        },
        bad.run_name: {"error": "InputError: no", "dev": None, "tokens": None},
        lost.run_name: {"error": None, "dev": None, "tokens": 7},
    }
    (tmp_path / "end" / train_jobs.ENDINGS).write_text(json.dumps(endings))
    good, failed, unread = (
        train_jobs._pooled(workspace, spec, tmp_path / "end") for spec in (SPEC, bad, lost)
    )
    assert workspace.pool.get(good.adapter).card.dev == dev(0.5)
    assert workspace.pool.get(good.adapter).card.prior_indexes == {"nl": "0" * 16}  # as it was measured
    assert (good.tokens, failed.tokens) == (7, None)
    assert (failed.adapter, failed.error) == (None, "InputError: no")
    assert unread.adapter is None and "adapter_model.safetensors" in unread.error


def test_outcomes_are_json() -> None:
    report = train_jobs.TrainReport(outcomes=(outcome(adapter="a" * 16, dev=dev(0.5)),), release=3)
    saved = json.loads(json.dumps(report.to_dict()))
    assert saved["release"] == 3
    assert saved["outcomes"][0]["dev"]["f1"] == 0.5


def test_runs_whose_predecessor_failed_fail_too() -> None:
    follower = replace(SPEC, language="de", continues="mul-run")
    ready = train_jobs._begun(follower, {"mul-run": outcome("mul", adapter="a" * 16)})
    stranded = train_jobs._begun(follower, {"mul-run": outcome("mul", error="InputError: no")})

    assert train_jobs._begun(SPEC, {}) == SPEC
    assert ready.initial_adapter == "a" * 16
    assert stranded.language == "de" and "mul-run" in stranded.error


def test_what_succeeded_is_published_in_one_release(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    outcomes = [
        outcome("nl", adapter=add_adapter(workspace, tmp_path, language="nl")),
        outcome("de", adapter=add_adapter(workspace, tmp_path, seed=1, language="de")),
        outcome("ru", error="InputError: no"),
    ]

    assert published(workspace, *outcomes).release == 1
    assert set(workspace.releases.current().languages) == {"de", "nl"}
    assert published(workspace, *outcomes).release == 1  # nothing new writes nothing
    assert published(workspace, outcomes[2]).release is None


def test_what_is_worse_is_published_only_by_force(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    good = outcome(adapter=add_adapter(workspace, tmp_path))
    worse = outcome(adapter=add_adapter(workspace, tmp_path, seed=1, dev=dev(0.1)))
    german = outcome("de", adapter=add_adapter(workspace, tmp_path, seed=2, language="de"))
    published(workspace, good)

    alone, beside = published(workspace, worse), published(workspace, worse, german)
    assert alone.release is None and "--force" in alone.refused["nl"]
    assert beside.release == 2 and list(beside.refused) == ["nl"]
    assert {c: e.adapter for c, e in workspace.releases.current().languages.items()} == {
        "de": german.adapter,
        "nl": good.adapter,
    }
    forced = published(workspace, worse, force=True)
    assert forced.release == 3 and not forced.refused


CONFIG = AdapterTrainingConfig(rank=8, alpha=16, epochs=2, batch_rows=4, save_steps=2, dev_rows=4)

DRIVER = """
import json, sys
from retrieveall.cli.process import ray_running, set_defaults
set_defaults()
from retrieveall.workspace import Workspace
from tests.test_train_jobs_train_adapters import specs
from train_jobs.packs import Resources
from train_jobs.train_adapters import train_adapters
workspace = Workspace.open(sys.argv[1])
with ray_running():
    report = train_adapters(workspace, specs(workspace, sys.argv[2]), Resources(pack_size=int(sys.argv[3])))
print(json.dumps(report.to_dict()))
"""


def specs(workspace: Workspace, base: str) -> list[list[RunSpec]]:
    choice = TrainingChoice(
        base_model=base, base_digest=base_digest(Path(base)), config=CONFIG, examples=False, dev_limit=4
    )
    return plan_specs(workspace, choice)


def make_workspace(folder: Path, *languages: str) -> Workspace:
    workspace = Workspace.open(folder / "workspace", create=True)
    for language in languages:
        rows = sample_corpus(language, sizes={"train": 40, "dev": 4})
        workspace.corpora.import_sentences(rows, name="sample", language=language)
    return workspace


def break_corpus(workspace: Workspace, language: str) -> bytes:
    """Takes the training file of a corpus away and returns it."""
    path = f"sample/{language}/train.parquet"
    whole = workspace.store.child("corpora").read_bytes(path)
    workspace.store.child("corpora").write_bytes(path, whole[:100])
    return whole


def start(workspace: Workspace, base: Path, log: Path, pack_size: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, workspace.uri, str(base), str(pack_size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def trained(workspace: Workspace, base: Path, log: Path, pack_size: int = 1) -> dict[str, Any]:
    return report_of(start(workspace, base, log, pack_size), log)


def report_of(driver: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    """Waits for the driver's end and returns release and outcomes by language."""
    printed, _ = driver.communicate(timeout=400)
    assert printed, log.read_text()[-2000:]
    report = json.loads(printed.splitlines()[-1])
    return {"release": report["release"], **{one["language"]: one for one in report["outcomes"]}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mended:
    """What became of German and English, trained packed, with the German corpus broken at first."""

    workspace: Workspace
    first: dict[str, Any]
    second: dict[str, Any]


@pytest.fixture(scope="module")
def mended(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Mended:
    folder = tmp_path_factory.mktemp("mended")
    workspace = make_workspace(folder, "de", "en")
    whole = break_corpus(workspace, "de")
    first = trained(workspace, base, folder / "first.log", pack_size=8)
    workspace.store.child("corpora").write_bytes("sample/de/train.parquet", whole)
    return Mended(
        workspace=workspace, first=first, second=trained(workspace, base, folder / "second.log", pack_size=8)
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_language_of_a_pack_fails_alone_and_only_it_is_trained_again(mended: Mended) -> None:
    first, second = mended.first, mended.second
    assert first["en"]["adapter"] and not first["en"]["error"]
    assert first["de"]["adapter"] is None and "arquet" in first["de"]["error"]
    assert first["release"] == 1
    assert second["en"]["reused"] and second["en"]["adapter"] == first["en"]["adapter"]
    assert second["de"]["adapter"] and not second["de"]["reused"]
    assert set(mended.workspace.releases.current().languages) == {"de", "en"}
    assert not [name for name in mended.workspace.runs.list() if name.startswith("pack-")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("languages", "victim"),
    [(("en",), "driver"), (("de", "en"), "driver"), (("en",), "worker")],
    ids=["driver-alone", "driver-packed", "worker"],
)
def test_a_killed_process_changes_no_adapter(
    languages: tuple[str, ...], victim: str, tmp_path: Path, base: Path, mended: Mended
) -> None:
    size = len(languages)
    workspace = make_workspace(tmp_path, *languages)
    (wanted,) = specs(workspace, str(base))
    driver = start(workspace, base, tmp_path / "killed.log", size)
    try:
        wait_for_checkpoint(driver, workspace.run(train_jobs.pack_name(wanted)))
        if victim == "worker":
            os.kill(wait_for_worker(driver, "ray::RayTrainWorker"), signal.SIGKILL)
            assert not any(file.path.endswith(train_jobs.ENDINGS) for file in workspace.runs.files())
            again = report_of(driver, tmp_path / "killed.log")
        else:
            driver.kill()
            driver.communicate()
            assert not workspace.run(wanted[0].run_name).exists(train_jobs.RESULT)
            again = trained(workspace, base, tmp_path / "again.log", size)
            assert "Failed to query" not in (tmp_path / "again.log").read_text()
    finally:
        driver.kill()

    # neither the kill nor the pack makes a difference
    for language in languages:
        assert again[language]["adapter"] == mended.second[language]["adapter"]
        assert not again[language]["reused"]
    assert len(workspace.pool.list()) == size


def has_checkpoint(run: Store) -> bool:
    return any(name.startswith("checkpoint_") and run.is_folder(name) for name in run.list())


def wait_for_checkpoint(driver: subprocess.Popen[str], run: Store) -> None:
    while not has_checkpoint(run):
        assert driver.poll() is None, "the job ended before it could be killed"
        time.sleep(0.05)
