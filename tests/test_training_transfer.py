"""A polyglot adapter and its continuation, analysed: report, folder and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from retrieveall.cli.analyze import _only_polyglot, save_transfer, show_transfer
from retrieveall.errors import IncompatibleArtefactError, InputError
from retrieveall.lora.card import LanguageData
from retrieveall.models.digest import base_digest
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.run import (
    AdapterTask,
    Candidate,
    Device,
    Measured,
    SplitInput,
    measure_dev,
    train_pack,
)
from retrieveall.training.transfer import TransferChoice, TransferReport, analyze_transfer
from retrieveall.training.transfer_plots import transfer_figures
from retrieveall.types import Examples, Sentence, Split
from retrieveall.workspace import Workspace
from tests.models import save_tiny_base
from tests.stores import card
from tests.trainings import LABELS, make_row

CONFIG = AdapterTrainingConfig(rank=8, alpha=16, epochs=3, batch_rows=4, learning_rate=1e-2)
LANGUAGES = ("de", "en")
PERCENTS = (10.0, 50.0, 100.0)


def sentences(language: str, split: Split, count: int) -> list[Sentence]:
    rows = (make_row(index).sentence for index in range(count))
    return [replace(row, id=f"{split}-{row.id}", language=language, split=split) for row in rows]


def as_input(rows: Sequence[Sentence]) -> SplitInput:
    return SplitInput(sentences=rows, detokenised=rows, examples=[Examples()] * len(rows))


class World:
    """A workspace with a trained polyglot adapter, and one for English that goes on from it."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace.open(folder / "w", create=True)
        self.base = save_tiny_base(folder / "base")
        for code in LANGUAGES:
            rows = [*sentences(code, "train", 16), *sentences(code, "dev", 5)]
            self.workspace.corpora.import_sentences(rows, name="mini", language=code)
        shared = [row for code in LANGUAGES for row in sentences(code, "train", 16)]
        self.polyglot = self._trained(folder, "mul", shared, None)
        self.english = self._trained(folder, "en", sentences("en", "train", 16), self.polyglot)

    def _trained(self, folder: Path, language: str, rows: Sequence[Sentence], initial: str | None) -> str:
        task = AdapterTask(
            train=as_input(rows),
            dev=as_input([]),
            labels=LABELS,
            config=CONFIG,
            initial=self.workspace.pool.path(initial) if initial else None,
        )
        tasks = {language: task}
        train_pack(str(self.base), tasks, folder / "done", device=Device(), on_step=lambda pack, step: None)
        manifest = self.workspace.corpora.manifest
        made = card(
            language,
            base_model=str(self.base),
            base_digest=base_digest(self.base),
            labels=LABELS,
            training={**asdict(CONFIG), "languages": LANGUAGES},
            initial_adapter=initial,
            sources={
                code: LanguageData(corpus="mini", corpus_digest=manifest("mini", code).digest, index=None)
                for code in LANGUAGES
            }
            if initial is None
            else {},
        )
        return self.workspace.pool.add(folder / "done" / language, made)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("transfer"))


@pytest.fixture(scope="module")
def report(world: World) -> TransferReport:
    choice = TransferChoice(adapter=world.polyglot, percents=PERCENTS, dev_limit=5)
    return analyze_transfer(world.workspace, choice, Device())


def test_all_weights_kept_leave_the_scores_as_they_are(world: World, report: TransferReport) -> None:
    dev = {code: as_input(world.workspace.corpora.load("mini", code, "dev")) for code in LANGUAGES}
    whole = Candidate(adapter=world.workspace.pool.path(world.polyglot), dev=dev, labels=LABELS)
    measured = measure_dev(str(world.base), {"whole": whole}, device=Device())["whole"]

    assert isinstance(measured, Measured)
    assert report.kept[-1].dev == measured.by_language
    assert all(scores.f1 > 0.5 for scores in measured.by_language.values())
    assert [one.kept for one in report.kept] == [round(report.weights * q / 100) for q in PERCENTS]
    assert report.sentences == {"de": 5, "en": 5}


def test_overlaps_are_symmetric_and_whole_with_oneself(report: TransferReport) -> None:
    for one in report.overlaps:
        assert [one.matrix[i][i] for i in range(2)] == [1.0, 1.0]
        assert one.matrix[0][1] == one.matrix[1][0] == one.mean_overlap
        assert one.chance == pytest.approx(one.percent / 100, abs=1e-3)
    # the two languages are the same text here
    assert report.overlaps[0].mean_overlap == 1.0
    assert report.overlaps[-1].shared == 1.0


def test_the_move_of_the_continued_adapter_is_shared_out(world: World, report: TransferReport) -> None:
    assert {(one.language, one.adapter) for one in report.moved} == {("en", world.english)}
    shares = [one.in_shared for one in report.moved]
    assert 0 < shares[0] < shares[1] < shares[2] == pytest.approx(1.0)
    assert shares == [one.in_own for one in report.moved]


def test_the_folder_holds_json_and_pictures(
    world: World, report: TransferReport, capsys: pytest.CaptureFixture[str]
) -> None:
    save_transfer(world.workspace, "transfer", report)
    folder = world.workspace.report("transfer")

    assert set(folder.list()) == {"report.json", "f1-kept.png", "overlap.png", "moved.png"}
    assert json.loads(json.dumps(report.to_dict())) == folder.read_json("report.json")
    assert set(transfer_figures(replace(report, moved=()))) == {"f1-kept", "overlap"}
    show_transfer(report)
    assert "chance" in capsys.readouterr().out


def test_synthetic_is_written_on_every_picture(report: TransferReport) -> None:
    figures = transfer_figures(replace(report, synthetic=True)).values()
    texts = [f"{one.get_suptitle()} {' '.join(a.get_title(loc='left') for a in one.axes)}" for one in figures]
    assert len(texts) == 3 and all("SYNTHETIC" in text for text in texts)


def test_adapters_of_one_language_and_changed_corpora_are_refused(world: World, tmp_path: Path) -> None:
    workspace = world.workspace
    with pytest.raises(InputError, match="'en' alone"):
        analyze_transfer(workspace, TransferChoice(adapter=world.english), Device())
    assert _only_polyglot(workspace) == world.polyglot
    with pytest.raises(InputError, match="has 0 polyglot adapters"):
        _only_polyglot(Workspace.open(tmp_path / "w", create=True))
    kept = workspace.corpora.load("mini", "de", "dev") + workspace.corpora.load("mini", "de", "train")
    try:
        workspace.corpora.import_sentences(kept[1:], name="mini", language="de", force=True)
        with pytest.raises(IncompatibleArtefactError, match="'mini' of 'de'"):
            analyze_transfer(workspace, TransferChoice(adapter=world.polyglot), Device())
    finally:
        workspace.corpora.import_sentences(kept, name="mini", language="de", force=True)
