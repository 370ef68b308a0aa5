"""An adapter learns, goes on after a kill as if nothing had been, and is plain PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from retrieveall.engine.automaton import TagLineAutomaton
from retrieveall.errors import InputError
from retrieveall.prompting.codec import PromptCodec
from retrieveall.text.units import split_units
from retrieveall.training.adapter import AdapterTraining, AdapterTrainingConfig, adapter_tensors
from retrieveall.training.data import RenderConfig, TrainingRow
from retrieveall.types import EntityExample, Examples, GoldEntity, Sentence
from tests.models import ARCHITECTURES, Architecture, tiny_model, tiny_tokenizer

LABELS = ("LOC", "PER")
NAMES = ("Anna", "Boris", "Carla", "Dmitri", "Elena")


def make_row(index: int) -> TrainingRow:
    name = NAMES[index % len(NAMES)]
    text = f"today {name} sang ."
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


def make_training(epochs: int = 2, **changes: object) -> AdapterTraining:
    tokenizer = tiny_tokenizer()
    settings = {"rank": 8, "alpha": 16, "epochs": epochs, "batch_rows": 4, "save_steps": 3, **changes}
    return AdapterTraining(
        tiny_model("llama"),
        PromptCodec(tokenizer),
        pad_id=tokenizer.pad_token_id,
        labels=LABELS,
        train=[make_row(i) for i in range(22)],
        dev=[make_row(i) for i in range(5)],
        config=AdapterTrainingConfig(**settings),  # type: ignore[arg-type]
    )


def test_the_loss_falls_and_the_base_stays_as_it_was() -> None:
    training = make_training(epochs=8, learning_rate=5e-3)
    frozen = {n: p.clone() for n, p in training.model.named_parameters() if not p.requires_grad}
    before = training.dev_loss()
    steps = list(training.run())
    after = training.dev_loss()
    assert before is not None and after is not None and after < 0.7 * before
    assert steps[-1].finished and steps[-1].step == training.total_steps
    assert all(torch.equal(p, frozen[n]) for n, p in training.model.named_parameters() if n in frozen)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = make_training()
    list(whole.run())
    whole.save_adapter(tmp_path / "whole")
    killed = make_training()
    for progress in killed.run():
        if progress.save:
            killed.save(tmp_path / "state")
        if progress.step == 5:
            break
    again = make_training()
    again.load(tmp_path / "state")
    assert 0 < again.step <= 5
    list(again.run())
    again.save_adapter(tmp_path / "again")
    one, two = adapter_tensors(tmp_path / "whole"), adapter_tensors(tmp_path / "again")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_two_workers_see_every_row_and_equally_many_batches() -> None:
    first, second = make_training(rank=8), make_training(rank=8)
    for number, training in enumerate((first, second)):
        training._rank, training._world_size = number, 2
    one, two = first._epoch_plan(0), second._epoch_plan(0)
    assert len(one) == len(two) == first.steps_per_epoch
    assert {i for batch in one + two for i in batch} == set(range(22))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_peft_reads_the_adapter_alike(architecture: Architecture, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    training = AdapterTraining(
        tiny_model(architecture),
        PromptCodec(tokenizer),
        pad_id=tokenizer.pad_token_id,
        labels=LABELS,
        train=[make_row(i) for i in range(8)],
        dev=[],
        config=AdapterTrainingConfig(rank=8, alpha=16, epochs=1, batch_rows=4),
    )
    list(training.run())
    training.save_adapter(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    plain = PeftModel.from_pretrained(tiny_model(architecture), tmp_path).eval()
    ids = torch.tensor([list(range(5, 25))])
    with torch.no_grad():
        assert torch.equal(training.model.eval()(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_the_loss_is_the_mean_of_the_decoders_own_logarithms() -> None:
    """What training lowers is what constrained decoding computes: the two may not drift apart."""
    training = make_training()
    training.model.eval().requires_grad_(False)
    rows = [training._render(make_row(i), str(i)) for i in range(4)]
    nats, decisions = 0.0, 0
    for row in rows:
        ids = [*row.prompt_ids, *row.target_ids]
        logits_TV = training.model(input_ids=torch.tensor([ids])).logits[0]
        automaton = TagLineAutomaton(row.sentence, training._grammar, training._codec.end_id)
        for step, token in enumerate(row.target_ids):
            allowed = automaton.allowed()
            logits = logits_TV[len(row.prompt_ids) + step - 1, list(allowed)]
            nats -= float(logits.log_softmax(0)[allowed.index(token)])
            decisions += len(allowed) > 1
            automaton.advance(token)
    assert decisions
    assert float(training.loss(training._collated(rows))) == pytest.approx(nats / decisions, rel=1e-4)


def test_padding_does_not_change_the_loss() -> None:
    training = make_training()
    training.model.eval().requires_grad_(False)
    rows = [training._render(make_row(i), str(i)) for i in range(6)]
    batches = [training._collated([row]) for row in rows]
    alone = sum(float(training.loss(batch)) * len(batch.chosen_N) for batch in batches)
    together = training._collated(rows)
    assert float(training.loss(together)) * len(together.chosen_N) == pytest.approx(alone, rel=1e-5)


def test_sentences_that_fit_no_prompt_are_an_error() -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(InputError, match="None of 1 training sentences"):
        AdapterTraining(
            tiny_model("llama"),
            PromptCodec(tokenizer),
            pad_id=0,
            labels=LABELS,
            train=[make_row(0)],
            dev=[],
            config=AdapterTrainingConfig(render=RenderConfig(budget_tokens=10)),
        )


def test_rows_are_rendered_the_same_for_the_same_key_only() -> None:
    training = make_training()
    rendered = {training._render(make_row(1), key) for key in ("0:1", "0:1", *map(str, range(40)))}
    assert training._render(make_row(1), "0:1") == training._render(make_row(1), "0:1")
    assert len(rendered) == 2  # with the one example and without
