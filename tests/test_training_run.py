"""A run trains what it can, writes plain PEFT folders and measures each adapter on its own dev sentences."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieveall.errors import InputError
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.data import RenderConfig
from retrieveall.training.pack import Pack, PackStep
from retrieveall.training.run import (
    AdapterTask,
    Candidate,
    Device,
    Measured,
    SplitInput,
    Trained,
    _DevTagging,
    _Tried,
    measure_dev,
    train_pack,
)
from retrieveall.types import Examples, Sentence, UnitScores
from tests.models import save_tiny_base
from tests.trainings import LABELS, make_row

CONFIG = AdapterTrainingConfig(rank=8, alpha=16, epochs=1, batch_rows=4)
NOTHING = SplitInput(sentences=(), detokenised=(), examples=())


def split(count: int) -> SplitInput:
    sentences = [make_row(index).sentence for index in range(count)]
    return SplitInput(sentences=sentences, detokenised=sentences, examples=[Examples()] * count)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_base(tmp_path_factory.mktemp("base")))


def run(base: str, tasks: dict[str, AdapterTask], target: Path) -> tuple[dict[str, object], list[PackStep]]:
    steps: list[PackStep] = []

    def note(pack: Pack, step: PackStep) -> None:
        steps.append(step)

    return dict(train_pack(base, tasks, target, device=Device(), on_step=note)), steps


def trained(one: object) -> Trained:
    assert isinstance(one, Trained)
    return one


def test_what_cannot_begin_does_not_keep_the_others_from_training(base: str, tmp_path: Path) -> None:
    good = AdapterTask(train=split(9), dev=split(2), labels=LABELS, config=CONFIG)
    short = replace(good, config=replace(CONFIG, render=RenderConfig(budget_tokens=10)))
    together, steps = run(base, {"good": good, "short": short}, tmp_path / "together")
    alone, _ = run(base, {"good": good}, tmp_path / "alone")

    assert isinstance(together["short"], InputError)
    assert [list(step.progress) for step in steps] == [["good"]] * 3
    one, other = (
        load_file(trained(done["good"]).folder / "adapter_model.safetensors") for done in (together, alone)
    )
    assert trained(together["good"]).tokens == trained(alone["good"]).tokens > 9 * 10
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_base_computes_in_what_a_recipe_says_and_the_adapter_is_kept_in_float32(
    base: str, tmp_path: Path
) -> None:
    folders = {}
    for dtype in ("float32", "bfloat16"):
        task = AdapterTask(
            train=split(9),
            dev=split(2),
            labels=LABELS,
            config=replace(CONFIG, dtype=dtype, learning_rate=1e-2),
        )
        done, _ = run(base, {"one": task}, tmp_path / dtype)
        folders[dtype] = load_file(trained(done["one"]).folder / "adapter_model.safetensors")
    exact, rounded = folders["float32"], folders["bfloat16"]
    assert {tensor.dtype for tensor in rounded.values()} == {torch.float32}
    assert any(not torch.equal(exact[name], rounded[name]) for name in exact)
    moved = torch.cat([exact[name].flatten() for name in exact if "lora_B" in name])
    nearly = torch.cat([rounded[name].flatten() for name in exact if "lora_B" in name])
    assert torch.cosine_similarity(moved, nearly, dim=0) > 0.9


def test_adapters_are_measured_each_on_its_own_and_broken_ones_say_so(base: str, tmp_path: Path) -> None:
    task = AdapterTask(train=split(9), dev=NOTHING, labels=LABELS, config=CONFIG)
    run(base, {"good": task}, tmp_path)
    shutil.copytree(tmp_path / "good", tmp_path / "broken")
    file = tmp_path / "broken" / "adapter_model.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(file).items()}, file)
    measured = measure_dev(
        base,
        {
            "good": Candidate(adapter=tmp_path / "good", dev={"en": split(5)}, labels=LABELS),
            "broken": Candidate(adapter=tmp_path / "broken", dev={"en": split(5)}, labels=LABELS),
            "unmeasured": Candidate(adapter=tmp_path / "good", dev={"en": NOTHING}, labels=LABELS),
        },
        device=Device(),
    )

    good = measured["good"]
    assert isinstance(good, Measured) and good.overall is not None and good.overall.sentences == 5
    assert not good.by_language
    assert "not a finite LoRA matrix" in str(measured["broken"])
    assert measured["unmeasured"] == Measured()


def test_an_adapter_of_several_languages_is_measured_on_each_and_on_all(base: str, tmp_path: Path) -> None:
    run(base, {"good": AdapterTask(train=split(9), dev=NOTHING, labels=LABELS, config=CONFIG)}, tmp_path)
    german = split(3)
    german = replace(german, sentences=[replace(one, language="de") for one in german.sentences])
    candidate = Candidate(
        adapter=tmp_path / "good", dev={"en": split(5), "de": german, "fr": NOTHING}, labels=LABELS
    )
    found = measure_dev(base, {"good": candidate}, device=Device())["good"]

    assert isinstance(found, Measured) and found.overall is not None
    assert found.overall.sentences == 8
    assert {code: scores.sentences for code, scores in found.by_language.items()} == {"en": 5, "de": 3}


def said(sentence: Sentence, *, right: bool) -> UnitScores:
    """A prior that is sure of the sentence's mention, or sure that there is none."""
    tags = np.zeros((len(sentence.tokens), 1 + 2 * len(LABELS)), np.float32)
    tags[:, 1:] = -9.0
    first = [token.start_char for token in sentence.tokens].index(sentence.entities[0].start_char)
    tags[first, 1 + 2 * LABELS.index("PER")] = 9.0 if right else -9.0
    transitions = np.zeros((tags.shape[1] + 1, tags.shape[1]), np.float32)
    return UnitScores(weight=1.0, labels=LABELS, tags=tags, transitions=transitions)


def with_prior(count: int, *, right: bool) -> SplitInput:
    plain = split(count)
    pairs = zip(plain.sentences, plain.examples, strict=True)
    examples = [replace(found, prior=said(sentence, right=right)) for sentence, found in pairs]
    return replace(plain, examples=examples)


def test_the_prior_counts_as_much_as_it_helps_on_dev(base: str, tmp_path: Path) -> None:
    task = AdapterTask(train=split(4), dev=split(2), labels=LABELS, config=CONFIG)
    done, _ = run(base, {"one": task}, tmp_path)
    dev = {"en": with_prior(6, right=True), "nl": with_prior(6, right=False), "de": split(3)}
    measured = measure_dev(
        base, {"one": Candidate(adapter=trained(done["one"]).folder, dev=dev, labels=LABELS)}, device=Device()
    )["one"]
    assert isinstance(measured, Measured)
    assert set(measured.prior_weights) == {"en"} and measured.prior_weights["en"] > 0
    assert measured.by_language["en"].f1 > measured.by_language["de"].f1


@pytest.mark.parametrize(
    ("f1", "best", "asked"),
    [
        ({1.0: 0.5, 2.0: 0.6, 4.0: 0.6}, 2.0, 3),  # of equals the smaller
        ({1.0: 0.5, 2.0: 0.4, 0.5: 0.5, 0.0: 0.3}, 0.5, 4),
        ({1.0: 0.5, 2.0: 0.4, 0.5: 0.5, 0.0: 0.5}, 0.0, 4),
        ({1.0: 0.1, 2.0: 0.2, 4.0: 0.3, 8.0: 0.4}, 8.0, 4),
    ],
)
def test_weights_are_tried_as_far_as_they_help(f1: dict[float, float], best: float, asked: int) -> None:
    class Tagging(_DevTagging):
        def tried(self, dev: SplitInput, weight: float) -> _Tried:
            seen.append(weight)
            return _Tried(weight, [], f1[weight])

    seen: list[float] = []
    tagging = Tagging(None, "a", LABELS)  # type: ignore[arg-type]
    assert tagging.best(with_prior(1, right=True)) == (best, []) and len(seen) == asked
