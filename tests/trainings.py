"""Small trainings over tiny bases: rows that name people, and trainings of them."""

from __future__ import annotations

from typing import Any

from retrieveall.prompting.codec import PromptCodec
from retrieveall.text.units import split_units
from retrieveall.training.adapter import AdapterTraining, AdapterTrainingConfig
from retrieveall.training.data import TrainingRow
from retrieveall.training.shared import SharedBase
from retrieveall.types import EntityExample, Examples, GoldEntity, Sentence
from tests.models import tiny_model, tiny_tokenizer

LABELS = ("LOC", "PER")
NAMES = ("Anna", "Boris", "Carla", "Dmitri", "Elena")


def make_row(index: int, *, words: int = 1) -> TrainingRow:
    name = NAMES[index % len(NAMES)]
    text = f"today {name} sang" + " well" * (words - 1) + " ."
    sentence = Sentence(
        id=str(index),
        language="en",
        text=text,
        tokens=split_units(text),
        entities=(GoldEntity(start_char=6, end_char=6 + len(name), label="PER"),),
        split="train",
    )
    examples = Examples(entity=(EntityExample(mention=NAMES[(index + 1) % len(NAMES)], label="PER"),))
    return TrainingRow(sentence=sentence, detokenised=sentence, examples=examples)


def make_base(model: Any = None, *, pass_tokens: int = 512) -> SharedBase:
    tokenizer = tiny_tokenizer()
    return SharedBase(
        tiny_model() if model is None else model,
        PromptCodec(tokenizer),
        pad_id=tokenizer.pad_token_id,
        pass_tokens=pass_tokens,
        pass_cost=32,
    )


def make_training(
    base: SharedBase | None = None,
    *,
    labels: tuple[str, ...] = LABELS,
    train: int = 22,
    dev: int = 5,
    rows: Any = make_row,
    **changes: Any,
) -> AdapterTraining:
    settings = {"rank": 8, "alpha": 16, "epochs": 2, "batch_rows": 4, "save_steps": 3, **changes}
    return AdapterTraining(
        base or make_base(),
        labels=labels,
        train=[rows(index) for index in range(train)],
        dev=[rows(index) for index in range(dev)],
        config=AdapterTrainingConfig(**settings),
    )
