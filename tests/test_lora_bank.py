from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrieveall.errors import NotFoundError
from retrieveall.lora.bank import AdapterBank
from retrieveall.lora.weights import LoraPair, LoraWeights


class Loads:
    def __init__(self) -> None:
        self.folders: list[str] = []

    def __call__(self, folder: Path) -> LoraWeights:
        if folder.name == "broken":
            raise NotFoundError("broken")
        self.folders.append(folder.name)
        return LoraWeights(pairs={"layer": LoraPair(a=torch.zeros(1, 1), b=torch.zeros(1, 1))})


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def bank(loads: Loads) -> AdapterBank:
    return AdapterBank(lambda digest: Path("pool") / digest, loads, capacity=2)


def test_an_adapter_is_loaded_once(bank: AdapterBank, loads: Loads) -> None:
    first = bank.hold(["a", "a"])["a"]
    assert bank.hold(["a"])["a"] is first
    assert loads.folders == ["a"]


def test_the_one_used_longest_ago_goes(bank: AdapterBank) -> None:
    bank.hold(["a"])
    bank.hold(["b"])
    bank.hold(["a"])
    bank.hold(["c"])
    assert set(bank.digests) == {"a", "c"}


def test_what_the_batch_uses_stays(bank: AdapterBank) -> None:
    bank.hold(["a", "b"])
    held = bank.hold(["c", "a"])  # a is the older one, and in use
    assert set(bank.digests) == set(held) == {"a", "c"}


def test_errors_stay_with_their_adapter_and_are_tried_again(bank: AdapterBank) -> None:
    held = bank.hold(["broken", "a"])
    assert isinstance(held["broken"], NotFoundError)
    assert isinstance(held["a"], LoraWeights)
    assert bank.digests == ("a",)
