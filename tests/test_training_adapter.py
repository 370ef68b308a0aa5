"""An adapter learns, with its own plan and schedule, and its loss is what decoding computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from retrieveall.engine.automaton import TagLineAutomaton
from retrieveall.errors import ConfigError, IncompatibleArtefactError, InputError
from retrieveall.training.adapter import AdapterTraining, AdapterTrainingConfig
from retrieveall.training.data import RenderConfig
from retrieveall.training.pack import Pack
from tests.models import tiny_model
from tests.trainings import LABELS, make_base, make_row, make_training


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 48),
        ("alpha", 0),
        ("learning_rate", -1e-3),
        ("epochs", 0),
        ("batch_rows", 0),
        ("accumulate", 0),
        ("patience", 0),
        ("save_steps", 0),
        ("dtype", "int4"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_is_trained(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        AdapterTrainingConfig(**{field: value})


def test_the_loss_falls_and_the_base_stays_as_it_was() -> None:
    base = make_base()
    frozen = {name: p.clone() for name, p in base.model.named_parameters()}
    training = make_training(base, epochs=8, learning_rate=5e-3)
    before = training.dev_loss()
    steps = [step.progress["one"] for step in Pack(base, {"one": training}).run()]
    after = training.dev_loss()
    assert before is not None and after is not None and after < 0.7 * before
    assert steps[-1].finished and steps[-1].step == training.total_steps
    assert [step.ends_epoch for step in steps] == [
        step.step % training.steps_per_epoch == 0 for step in steps
    ]
    assert all(torch.equal(p, frozen[name]) for name, p in base.model.named_parameters())


def test_the_best_weights_are_kept_and_training_stops_where_there_is_no_gain() -> None:
    base = make_base()
    training = make_training(base, epochs=30, learning_rate=0.5, patience=2)
    steps = [step.progress["one"] for step in Pack(base, {"one": training}).run()]
    losses = [step.dev_loss for step in steps if step.dev_loss is not None]
    assert len(losses) < 30 and steps[-1].finished
    assert training.dev_loss() == min(losses)
    assert min(losses) not in losses[-2:]


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({}, 10),  # 22 rows in batches of 4 are 6 steps
        ({"batch_rows": 22}, 60),
        ({"batch_rows": 1, "rows": make_row, "train": 40}, 2),
        ({"pass_share": 0.5}, 5),
        ({"epochs": 3}, 3),
        ({"epochs": 1, "pass_share": 0.5}, 1),
    ],
)
def test_small_corpora_are_passed_over_more_often_unless_told_otherwise(
    settings: dict[str, Any], epochs: int
) -> None:
    training = make_training(**{"epochs": None, **settings})
    assert (training.epochs, training.total_steps) == (epochs, epochs * training.steps_per_epoch)


def test_two_workers_see_every_row_and_equally_many_batches() -> None:
    first, second = make_training(), make_training()
    for number, training in enumerate((first, second)):
        training._rank, training._world_size = number, 2
    plans = first._epoch_plan(0), second._epoch_plan(0)
    one, two = plans[0].batches, plans[1].batches
    assert len(one) == len(two) == first.steps_per_epoch
    assert {i for batch in one + two for i in batch} == set(range(22))
    assert plans[0].step_tokens == plans[1].step_tokens and len(plans[0].step_tokens) == len(one)


def test_the_tokens_of_the_rows_seen_are_counted() -> None:
    base = make_base()
    training = make_training(base, accumulate=2)
    seen = []
    for _ in range(training.steps_per_epoch):
        portion = training.portion()
        seen.append(sum(map(len, portion.rows)))
        assert training.take_step(base.backward([portion])[0]).tokens == sum(seen)
    assert training._epoch_plan(0).step_tokens == seen


def test_a_portion_weighs_every_decision_of_a_batch_alike_and_every_batch_alike() -> None:
    portion = make_training(accumulate=3, batch_rows=2).portion()
    assert len(portion.rows) == 6
    for start in (0, 2, 4):
        shares = [
            weight * len(row.steps)
            for row, weight in zip(portion.rows[start : start + 2], portion.weights[start:], strict=False)
        ]
        assert sum(shares) == pytest.approx(1 / 3)


def test_an_adapter_continues_another_one(tmp_path: Path) -> None:
    base = make_base()
    first = make_training(base)
    list(Pack(base, {"one": first}).run())
    first.adapter.save(tmp_path)
    second = AdapterTraining(
        base, labels=LABELS, train=[make_row(0)], dev=[], config=first.config, initial=tmp_path
    )
    pairs = zip(first.adapter.parameters.values(), second.adapter.parameters.values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    with pytest.raises(IncompatibleArtefactError, match="rank 16"):
        AdapterTraining(
            base,
            labels=LABELS,
            train=[make_row(0)],
            dev=[],
            config=AdapterTrainingConfig(rank=16),
            initial=tmp_path,
        )


def test_the_loss_is_the_mean_of_the_decoders_own_logarithms() -> None:
    """What training lowers is what constrained decoding computes: the two may not drift apart."""
    base = make_base()
    training = make_training(base)  # a new adapter changes nothing, so the plain base must agree
    model = tiny_model("llama")
    rows = [training._render_dev(index) for index in range(len(training._dev))]
    nats, decisions = 0.0, 0
    for row in rows:
        ids = [*row.prompt_ids, *row.target_ids]
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([ids])).logits[0]
        automaton = TagLineAutomaton(row.sentence, training._grammar, base.codec.end_id)
        for step, token in enumerate(row.target_ids):
            allowed = automaton.allowed()
            logits = logits_TV[len(row.prompt_ids) + step - 1, list(allowed)]
            nats -= float(logits.log_softmax(0)[allowed.index(token)])
            decisions += len(allowed) > 1
            automaton.advance(token)
    assert decisions
    assert training.dev_loss() == pytest.approx(nats / decisions, rel=1e-4)


def test_sentences_that_fit_no_prompt_are_an_error() -> None:
    with pytest.raises(InputError, match="None of 1 training sentences"):
        make_training(train=1, render=RenderConfig(budget_tokens=10))


def test_rows_are_rendered_the_same_for_the_same_key_only() -> None:
    training = make_training(render=RenderConfig(rename_rate=0.0, taught_rate=0.0))
    rendered = {training._render(1, epoch) for epoch in range(40)}
    assert training._render(1, 0) == training._render(1, 0)
    assert len(rendered) == 2  # with the one example and without
