"""A split tagged and scored: the report that `eval --json` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from retrieveall.corpus import Provenance
from retrieveall.corpus.sample import sample_corpus
from retrieveall.engine.echo import EchoEngine
from retrieveall.errors import InputError, NotFoundError
from retrieveall.evaluation.run import EvalChoice, evaluate_tagger
from retrieveall.generation import Generator
from retrieveall.prompting.codec import PromptCodec
from retrieveall.routing import Routed
from retrieveall.tagger import ServedAdapter, Tagger
from retrieveall.types import GoldEntity, Route, Sentence, Split
from retrieveall.workspace import Workspace
from tests.corpora import sentence
from tests.models import tiny_tokenizer

KEYS = {
    *("f1", "f1_low", "f1_high", "precision", "recall", "labels", "routing_accuracy"),
    *("f1_unseen", "f1_detokenised", "sentences"),
}


class GermanRouter:
    """Routes everything to German; texts with a question mark to nobody."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def route(self, texts: Sequence[str], *, documents: Sequence[int] | None = None) -> Routed:
        self.texts += texts
        routes = (
            Route(language="de", ranking=(("de", 1.0), ("en", 0.0)), margin=1.0, known="?" not in t)
            for t in texts
        )
        return Routed(routes=tuple(routes), embeddings=None)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("evaluation") / "w", create=True)
    for code in ("de", "en"):
        rows = [make_row(code, split, index) for split in ("train", "test") for index in range(12)]
        workspace.corpora.import_sentences(rows, name="mini", language=code)
    return workspace


def make_row(code: str, split: Any, index: int) -> Sentence:
    """One person, who is the only capitalised word; every third sentence asks."""
    words = f"so Anna{'?' if index % 3 == 0 else ' .'} {split}{index}".replace("?", " ?")
    return sentence(words, (1, 2, "PER"), id=f"{split}-{index}", language=code, split=split)


@pytest.fixture
def router() -> GermanRouter:
    return GermanRouter()


@pytest.fixture
def tagger(router: GermanRouter) -> Iterator[Tagger]:
    codec = PromptCodec(tiny_tokenizer())
    engine = EchoEngine(codec)
    adapters = {c: ServedAdapter(language=c, digest=c * 8, labels=("PER", "LOC")) for c in ("de", "en")}
    yield Tagger(
        release=4, adapters=adapters, router=router, retriever=None, generator=Generator(engine, codec)
    )
    engine.close()


def choice(**changes: Any) -> EvalChoice:
    return EvalChoice(**{"corpus": None, "languages": ("de", "en"), "settings": {"routing": "x"}, **changes})


def test_the_report_keeps_the_contract_of_eval_json(workspace: Workspace, tagger: Tagger) -> None:
    report = json.loads(json.dumps(evaluate_tagger(workspace, tagger, choice()).to_dict()))

    assert {"macro_f1", "languages", "sentences_per_s", "release"} <= set(report)
    assert report["release"] == 4
    assert report["sentences_per_s"] > 0
    assert set(report["languages"]) == {"de", "en"}
    for scores in report["languages"].values():
        assert set(scores) >= KEYS
        assert scores["f1"] == scores["f1_detokenised"] == scores["f1_unseen"] == 1.0
        assert scores["f1_low"] <= scores["f1"] <= scores["f1_high"]
        assert scores["sentences"] == 12
        assert scores["labels"]["PER"]["f1"] == 1.0
    assert report["macro_f1"] == 1.0
    assert report["settings"] == {"routing": "x"}


def test_routing_counts_mixtures_and_other_languages_as_wrong(workspace: Workspace, tagger: Tagger) -> None:
    report = evaluate_tagger(workspace, tagger, choice(detokenised=False)).to_dict()

    assert report["languages"]["de"]["routing_accuracy"] == pytest.approx(8 / 12)
    assert report["languages"]["en"]["routing_accuracy"] == 0.0
    assert report["languages"]["de"]["f1_detokenised"] is None


def test_the_oracle_pins_every_sentence(workspace: Workspace, tagger: Tagger, router: GermanRouter) -> None:
    report = evaluate_tagger(workspace, tagger, choice(oracle=True)).to_dict()

    assert router.texts == []
    assert report["languages"]["en"]["routing_accuracy"] is None


def test_languages_share_batches_and_a_limit_draws_the_same_sentences(
    workspace: Workspace, tagger: Tagger, router: GermanRouter
) -> None:
    seen: list[tuple[int, int]] = []
    evaluate_tagger(
        workspace, tagger, choice(limit=5), on_progress=lambda done, total: seen.append((done, total))
    )
    first, router.texts = router.texts, []
    evaluate_tagger(workspace, tagger, choice(limit=5))

    assert seen == [(10, 20), (20, 20)]
    assert first == router.texts and len(first) == 20
    assert first[0:10:2] == first[1:10:2]  # German, English, German …: the rows are alike here


def test_a_split_that_is_not_there_is_an_error_that_names_those_that_are(
    workspace: Workspace, tagger: Tagger
) -> None:
    with pytest.raises(InputError, match=r"no dev sentences for 'de'; it has train, test"):
        evaluate_tagger(workspace, tagger, choice(split="dev"))
    with pytest.raises(NotFoundError, match="'nl'"):
        evaluate_tagger(workspace, tagger, choice(languages=("nl",)))


def test_labels_that_no_adapter_knows_count_as_missed(tmp_path: Path, tagger: Tagger) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    rows = [sentence("so Anna .", (1, 2, "WORK"), id=f"{s}-0", language="de", split=s) for s in SPLITS]
    workspace.corpora.import_sentences(rows, name="mini", language="de")
    scores = evaluate_tagger(workspace, tagger, choice(languages=("de",))).to_dict()["languages"]["de"]

    assert (scores["f1"], scores["recall"]) == (0.0, 0.0)


SPLITS: tuple[Split, ...] = ("train", "test")


def test_the_sample_corpus_is_called_synthetic(tmp_path: Path, tagger: Tagger) -> None:
    workspace = Workspace.open(tmp_path / "w", create=True)
    rows = sample_corpus("de", sizes={"train": 12, "test": 6})
    workspace.corpora.import_sentences(
        rows, name="sample", language="de", provenance=Provenance(synthetic=True)
    )
    report = evaluate_tagger(workspace, tagger, choice(languages=("de",))).to_dict()

    assert report["synthetic"] is True
    assert any("synthetic" in note for note in report["notes"])
    assert "f1_unseen_names" in report["languages"]["de"]


def test_gold_entities_are_left_as_they_are() -> None:
    assert make_row("de", "test", 0).entities == (GoldEntity(start_char=3, end_char=7, label="PER"),)
