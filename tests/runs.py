"""A training run that was planned: what tests of training jobs start from."""

from __future__ import annotations

from retrieveall.lora.card import LanguageData
from retrieveall.training.adapter import AdapterTrainingConfig
from retrieveall.training.data import RenderConfig
from retrieveall.training.inputs import RunSpec
from tests.stores import BASE, CORPUS

SPEC = RunSpec(
    language="nl",
    data={"nl": LanguageData(corpus="panx", corpus_digest=CORPUS, index="1" * 16)},
    train_languages=("nl",),
    serves=("nl",),
    strategy="monolingual",
    labels=("LOC", "PER"),
    base_model="tiny",
    base_digest=BASE,
    config=AdapterTrainingConfig(rank=16, render=RenderConfig(entity_examples=3, context_examples=1)),
    examples=True,
    embedder="ngram",
    embedder_digest="2" * 16,
    threshold_std=0.5,
    train_limit=100,
    dev_limit=50,
    synthetic=True,
    licence="CC0",
)
