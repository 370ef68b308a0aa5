"""Adapters trained together become what each would have become alone, also after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrieveall.training.adapter import AdapterTraining
from retrieveall.training.pack import Pack
from retrieveall.training.shared import SharedBase
from tests.models import Architecture, exact_model
from tests.trainings import make_base, make_row, make_training

# of other ranks, labels, lengths, sizes and numbers of steps; "soon" stops early
LANGUAGES = {
    "long": {"rank": 16, "train": 20, "epochs": 2, "accumulate": 2, "rows": lambda i: make_row(i, words=9)},
    "soon": {"labels": ("PER",), "train": 6, "epochs": 9, "patience": 1, "learning_rate": 0.3, "seed": 4},
    "short": {"train": 7, "dev": 0, "epochs": 3, "rows": lambda i: make_row(i + 2), "seed": 1},
}


def make_trainings(base: SharedBase) -> dict[str, AdapterTraining]:
    return {
        name: make_training(base, **{"batch_rows": 3, **changes})  # type: ignore[arg-type]
        for name, changes in LANGUAGES.items()
    }


def weights(training: AdapterTraining) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in training.adapter.parameters.items()}


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_every_adapter_becomes_what_it_would_have_become_alone(architecture: Architecture) -> None:
    base = make_base(exact_model(architecture), pass_tokens=200)
    together = make_trainings(base)
    list(Pack(base, together).run())
    assert len({training.step for training in together.values()}) == 3  # each leaves at its own time
    assert together["soon"].step < together["soon"].total_steps
    for name, alone in make_trainings(base).items():
        list(Pack(base, {name: alone}).run())
        assert (alone.step, len(alone.history)) == (together[name].step, len(together[name].history))
        mine = weights(together[name])
        for key, tensor in weights(alone).items():
            torch.testing.assert_close(mine[key], tensor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("killed_at", [2, 5])
def test_a_killed_pack_ends_with_the_same_weights(killed_at: int, tmp_path: Path) -> None:
    base = make_base(pass_tokens=200)
    whole = make_trainings(base)
    list(Pack(base, whole).run())
    killed = Pack(base, make_trainings(base))
    for number, step in enumerate(killed.run(), start=1):
        if step.save:
            killed.save(tmp_path / "state")
            saved = {name: training.step for name, training in killed.trainings.items()}
        if number >= killed_at and (tmp_path / "state").exists():
            break
    again = make_trainings(base)
    pack = Pack(base, again)
    pack.load(tmp_path / "state")
    assert {name: training.step for name, training in again.items()} == saved
    assert not all(training.finished for training in again.values())
    list(pack.run())
    for name, training in whole.items():
        mine = weights(again[name])
        assert training.history[0]["loss"] == again[name].history[0]["loss"]
        assert all(torch.equal(mine[key], tensor) for key, tensor in weights(training).items())


def test_an_adapter_that_a_save_does_not_know_begins_anew(tmp_path: Path) -> None:
    base = make_base()
    pack = Pack(base, {"old": make_training(base)})
    next(pack.run())
    pack.save(tmp_path)
    joined = Pack(base, {"old": make_training(base), "new": make_training(base)})
    joined.load(tmp_path)
    assert [joined.trainings[name].step for name in ("old", "new")] == [1, 0]


def test_a_save_is_due_at_its_steps_at_common_ends_of_epochs_and_when_one_is_finished() -> None:
    base = make_base()
    trainings = {
        "big": make_training(base, train=20, epochs=1, save_steps=4),
        "small": make_training(base, train=8, epochs=1, save_steps=4),
    }
    due = [step.save for step in Pack(base, trainings).run()]
    assert due == [False, True, False, True, True]  # small is done, step 4, big is done
    alone = Pack(base, {"one": make_training(base, train=8, epochs=2, save_steps=100)})
    assert [step.save for step in alone.run()] == [False, True, False, True]
