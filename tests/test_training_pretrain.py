"""Pretraining goes on after a kill as if nothing had been, and its model is plain Hugging Face."""

from __future__ import annotations

import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrieveall.digests import digest_file
from retrieveall.errors import InputError, NotFoundError
from retrieveall.models.card import TextNote, files_note, write_card
from retrieveall.models.digest import base_digest
from retrieveall.prompting.codec import PromptCodec
from retrieveall.training.pretrain import (
    PackedBatches,
    PretrainConfig,
    Pretraining,
    bits_per_byte,
    build_model,
    lr_factor,
    next_token_loss,
    sampled_next_token_loss,
)
from tests.models import tiny_model, tiny_tokenizer
from train_jobs import pretrain_base

CONFIG = PretrainConfig(
    vocabulary_size=400,
    hidden_size=32,
    intermediate_size=48,
    layers=1,
    heads=2,
    key_value_heads=1,
    row_tokens=32,
    micro_rows=2,
    accumulate=2,
    tokens=32 * 4 * 12,
    warmup_steps=2,
    sampled_classes=64,
    heldout_lines=3,
    checkpoint_steps=4,
)
NOTE = TextNote(text="Letters of our own, CC0.", license="cc0-1.0")
WORDS = {
    "en": ("Anna", "Bo", "saw", "the", "old", "house", "in", "Oslo", "12", "."),
    "ru": ("Анна", "видела", "старый", "дом", "в", "Осло", "7", "."),
    "zh": ("安娜", "看见", "了", "老", "房子", "在", "奥斯陆", "。"),
}


def make_lines(count: int = 30) -> dict[str, list[str]]:
    rng = random.Random(0)
    return {
        language: [("" if language == "zh" else " ").join(rng.choices(words, k=7)) for _ in range(count)]
        for language, words in WORDS.items()
    }


def states(run: Pretraining) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def assert_same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


class Killed(Exception):
    pass


def run_until(run: Pretraining, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and dies in the middle of a step, as a killed process does."""
    train = Pretraining._train_step

    def dying(self: Pretraining) -> float:
        if self.step == step:
            raise Killed
        return train(self)

    monkeypatch.setattr(Pretraining, "_train_step", dying)
    with pytest.raises(Killed):
        run.run()
    monkeypatch.undo()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pretraining]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("run")
    run = Pretraining(folder, make_lines(), CONFIG)
    run.run()
    return folder, run


def test_a_run_learns_and_logs_each_step_once(finished: tuple[Path, Pretraining]) -> None:
    folder, run = finished
    assert run.step == CONFIG.steps == 12
    assert steps_of(folder) == list(range(1, 13))
    losses = [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert losses[0] == pytest.approx(math.log(400), abs=0.5)
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("step", [2, 7])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    step: int, finished: tuple[Path, Pretraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(Pretraining(tmp_path, make_lines(), CONFIG), step, monkeypatch)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "lo')  # the line that the kill cut
    resumed = Pretraining(tmp_path, make_lines(), CONFIG)
    assert resumed.step == step // 4 * 4
    resumed.run()
    assert_same(states(resumed), states(finished[1]))
    assert steps_of(tmp_path) == list(range(1, 13))
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert files == sorted(path.relative_to(finished[0]) for path in finished[0].rglob("*"))


def test_a_finished_run_is_not_trained_again(
    finished: tuple[Path, Pretraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Pretraining(finished[0], make_lines(), CONFIG)
    monkeypatch.delattr(Pretraining, "_train_step")
    again.run()
    assert_same(states(again), states(finished[1]))


def test_a_run_lengthened_before_its_decay_equals_one_begun_with_that_length(
    finished: tuple[Path, Pretraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = replace(CONFIG, tokens=CONFIG.tokens * 2)
    run_until(Pretraining(tmp_path, make_lines(), longer), 4, monkeypatch)
    cut_short = Pretraining(tmp_path, make_lines(), CONFIG)
    cut_short.run()
    assert_same(states(cut_short), states(finished[1]))


def test_another_recipe_is_refused_with_what_differs(finished: tuple[Path, Pretraining]) -> None:
    with pytest.raises(InputError, match=r"layers 1 there, 2 given, seed 0 there, 5 given"):
        Pretraining(finished[0], make_lines(), replace(CONFIG, layers=2, seed=5))
    lookup = replace(CONFIG.lookup, fuzzy_share=0.9)
    with pytest.raises(InputError, match=r"'fuzzy_share': 0\.15.*'fuzzy_share': 0\.9"):
        Pretraining(finished[0], make_lines(), replace(CONFIG, lookup=lookup))


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    first = build_model(CONFIG, tiny_tokenizer()).state_dict()
    torch.manual_seed(123)
    assert_same(first, build_model(CONFIG, tiny_tokenizer()).state_dict())
    other = build_model(replace(CONFIG, seed=1), tiny_tokenizer()).state_dict()
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_batches_are_full_rows_decided_by_seed_step_and_micro() -> None:
    codec = PromptCodec(tiny_tokenizer())
    batches = PackedBatches(make_lines(), codec, CONFIG)
    keys = [(0, 0), (0, 1), (1, 0)]
    drawn = [batches.batch(*key) for key in keys]
    assert all(rows.shape == (2, 33) for rows in drawn)
    again = PackedBatches(make_lines(), codec, CONFIG)
    assert all(
        torch.equal(again.batch(*key), rows) for key, rows in reversed(list(zip(keys, drawn, strict=True)))
    )
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    other = PackedBatches(make_lines(), codec, replace(CONFIG, seed=1))
    assert not torch.equal(other.batch(0, 0), drawn[0])


def test_without_lessons_a_row_is_the_lines_with_end_tokens_between() -> None:
    codec = PromptCodec(tiny_tokenizer())
    lines = {"en": ["Anna saw Bo ."]}
    rows = PackedBatches(lines, codec, replace(CONFIG, lesson_share=0.0)).batch(0, 0)
    line = [*codec.text("Anna saw Bo .").ids, codec.end_id]
    stream = rows.flatten().tolist()
    assert stream == (line * len(stream))[: len(stream)]


def loss_and_gradient(model: Any, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), model.lm_head.weight.grad.clone()


def random_rows(vocabulary: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("vocabulary", [5, 300])
def test_a_sample_of_everything_is_the_full_loss(vocabulary: int) -> None:
    # With 5 tokens all are targets and nothing is left to sample.
    model: Any = tiny_model("llama", vocab_size=vocabulary, eos_token_id=None, pad_token_id=None)
    rows = random_rows(vocabulary, 3, 20)
    full, full_gradient = loss_and_gradient(model, next_token_loss(model, rows))
    sampled, gradient = loss_and_gradient(
        model, sampled_next_token_loss(model, rows, vocabulary, torch.Generator())
    )
    assert sampled == pytest.approx(full, abs=1e-5)
    assert torch.allclose(gradient, full_gradient, atol=1e-6)


@torch.no_grad()
def test_the_sampled_partition_function_is_right_on_average() -> None:
    model: Any = tiny_model("llama", vocab_size=300, eos_token_id=None, pad_token_id=None)
    row = torch.tensor([[7, 9]])
    logits = model(input_ids=row[:, :1]).logits[0, 0]
    partition = float(logits.exp().sum())
    assert float(logits.std()) > 0.5  # else any sample would do
    estimates = torch.tensor(
        [
            float(sampled_next_token_loss(model, row, 30, torch.Generator().manual_seed(seed)) + logits[9])
            for seed in range(200)
        ],
        dtype=torch.float64,
    ).exp()
    error = float(estimates.std()) / math.sqrt(len(estimates))
    assert error < 0.1 * partition
    assert abs(float(estimates.mean()) - partition) < 4 * error


@torch.no_grad()
def test_the_sample_is_decided_by_its_generator_alone() -> None:
    model: Any = tiny_model("llama", vocab_size=300, eos_token_id=None, pad_token_id=None)
    rows = random_rows(300, 2, 9)
    losses = [
        float(sampled_next_token_loss(model, rows, 20, torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    config = replace(CONFIG, tokens=128 * 100, warmup_steps=4, decay_share=0.3)
    factors = [lr_factor(step, config) for step in range(100)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(factors[3:71]) == {1.0}
    assert factors[-1] == pytest.approx(1 / 30)
    assert factors[70:] == sorted(factors[70:], reverse=True)
    assert lr_factor(0, replace(config, warmup_steps=0)) == 1.0


def test_bits_per_byte_of_a_uniform_model() -> None:
    model: Any = tiny_model("llama", vocab_size=1024)
    model.get_input_embeddings().weight.data.zero_()  # the head is tied to it: all logits are 0
    codec = PromptCodec(tiny_tokenizer())
    lines = ["Anna saw Bo .", "安娜"]
    tokens = sum(len(codec.text(line).ids) + 1 for line in lines)
    size = sum(len(line.encode()) for line in lines)
    assert bits_per_byte(model, codec, lines) == pytest.approx(10 * tokens / size, rel=1e-5)


@pytest.mark.parametrize(("count", "match"), [(10, "too short are: de"), (0, "at least 1")])
def test_too_few_lines_are_refused_before_anything_is_written(count: int, match: str, tmp_path: Path) -> None:
    lines = {"en": ["a"] * 11, "de": ["b"] * 10}
    with pytest.raises(InputError, match=match):
        Pretraining(tmp_path / "run", lines, replace(CONFIG, heldout_lines=count))
    assert not (tmp_path / "run").exists()


def test_the_saved_model_opens_as_any_other(finished: tuple[Path, Pretraining]) -> None:
    folder, run = finished
    auto_model: Any = AutoModelForCausalLM
    auto_tokenizer: Any = AutoTokenizer
    model = auto_model.from_pretrained(folder / "model")
    tokenizer = auto_tokenizer.from_pretrained(folder / "model")
    assert model.dtype == torch.bfloat16
    saved = model.state_dict()
    assert all(torch.equal(saved[name], tensor.bfloat16()) for name, tensor in states(run).items())
    text = "Anna saw 安娜 ."
    assert PromptCodec(tokenizer).text(text) == run.codec.text(text)
    assert model.config.eos_token_id == tokenizer.eos_token_id == run.codec.end_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_no_file_of_a_larger_model_exceeds_15_megabytes(tmp_path: Path) -> None:
    large = replace(CONFIG, hidden_size=256, intermediate_size=1024, layers=8, heads=4, key_value_heads=4)
    run = Pretraining(tmp_path / "run", make_lines(), large)
    run.save_model(tmp_path / "model")
    sizes = [path.stat().st_size for path in (tmp_path / "model").iterdir()]
    assert sum(sizes) > 15_000_000 >= max(sizes)
    auto_model: Any = AutoModelForCausalLM
    loaded = auto_model.from_pretrained(tmp_path / "model").state_dict()
    assert_same(loaded, {name: tensor.bfloat16() for name, tensor in states(run).items()})


def test_the_card_states_recipe_and_scores(finished: tuple[Path, Pretraining], tmp_path: Path) -> None:
    folder, run = finished
    write_card(run, folder, tmp_path, NOTE)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "LICENSE.md",
        "recipe.json",
        "bits_per_byte.json",
        "loss.png",
    }
    assert json.loads((tmp_path / "recipe.json").read_text()) == asdict(CONFIG)
    bits = json.loads((tmp_path / "bits_per_byte.json").read_text())
    assert bits == {
        language: round(bits_per_byte(run.model, run.codec, lines), 3)
        for language, lines in run.heldout.items()
    }
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    card = (tmp_path / "README.md").read_text()
    assert "$" not in card and "in one stage, from random weights" in card
    assert card.startswith("---\nlicense: cc0-1.0\n") and NOTE.text in card
    assert all(f"| {language} | {value:.3f} |" in card for language, value in bits.items())


def test_a_run_begins_with_a_finished_model_and_its_card_says_so(
    finished: tuple[Path, Pretraining], tmp_path: Path
) -> None:
    folder, before = finished
    model = tmp_path / "model"
    before.save_model(model)
    write_card(before, folder, model, NOTE)
    config = replace(CONFIG, continues=base_digest(model), seed=5)
    run = Pretraining(tmp_path / "run", make_lines(), config, continued=model)
    expected = {name: tensor.bfloat16().float() for name, tensor in states(before).items()}
    assert_same(states(run), expected)
    assert run.codec.text("Anna saw Oslo").ids == before.codec.text("Anna saw Oslo").ids

    write_card(run, folder, tmp_path, NOTE, continued=model)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe == {**asdict(config), "continued_recipe": asdict(CONFIG)}
    card = (tmp_path / "README.md").read_text()
    assert "--continue-from MODEL" in card and f"stage 2 with {config.continues}." in card
    assert "0.0 million tokens in 2 stages (0.0 + 0.0)" in card
    assert "![loss](loss-1.png)\n![loss](loss.png)" in card
    assert (tmp_path / "loss-1.png").read_bytes() == (model / "loss.png").read_bytes()


def test_without_a_note_the_card_lists_the_files_and_names_no_licence(
    finished: tuple[Path, Pretraining], tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "sw.txt").write_text("Amina anaishi Arusha.\n")
    note = pretrain_base.text_note(None, text, "other")
    write_card(finished[1], finished[0], tmp_path, note)
    for name in ("README.md", "LICENSE.md"):
        written = (tmp_path / name).read_text()
        assert f"| sw | 22 | {digest_file(text / 'sw.txt')} |" in written
        assert not any(word in written for word in ("Tatoeba", "FLORES", "CC BY", "cc-by"))
    assert note.text == files_note(text)


def test_a_note_is_read_before_the_training_or_missed(tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    with pytest.raises(NotFoundError, match="--data-note"):
        pretrain_base.text_note(path, tmp_path, "other")
    path.write_text("ours")
    assert pretrain_base.text_note(path, tmp_path, "mit") == TextNote(text="ours", license="mit")


def test_a_model_that_is_not_the_recipes_is_refused(
    finished: tuple[Path, Pretraining], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    finished[1].save_model(model)
    for config, continued in ((CONFIG, model), (replace(CONFIG, continues="0" * 16), model)):
        with pytest.raises(InputError, match="continues the model of digest"):
            Pretraining(tmp_path / "run", make_lines(), config, continued=continued)
    other = replace(CONFIG, continues=base_digest(model), hidden_size=48)
    with pytest.raises(InputError, match="other sizes"):
        Pretraining(tmp_path / "run", make_lines(), other, continued=model)


def command(text: Path, run: Path, flags: Sequence[str]) -> list[str]:
    return ["--text", str(text), "--run", str(run), *flags]


def test_the_cards_command_gives_the_same_recipe(
    finished: tuple[Path, Pretraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_card(finished[1], finished[0], tmp_path, NOTE)
    (line,) = [line for line in (tmp_path / "README.md").read_text().splitlines() if "python -m" in line]
    monkeypatch.setattr(sys, "argv", shlex.split(line)[2:])
    given = vars(pretrain_base.parse_arguments())
    recipe = {name: value for name, value in asdict(CONFIG).items() if name not in pretrain_base.NO_FLAGS}
    assert {name: given[name] for name in recipe} == recipe


@pytest.mark.timeout(300)  # a fresh interpreter imports torch
def test_the_command_is_killed_resumes_and_installs_the_model_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, run, installed = tmp_path / "text", tmp_path / "run", tmp_path / "model"
    text.mkdir()
    lines = make_lines()
    for language, texts in lines.items():
        (text / f"{language}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    config = replace(CONFIG, tokens=128 * 24)
    given = {name: value for name, value in asdict(config).items() if name not in pretrain_base.NO_FLAGS}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    arguments = [*command(text, run, flags), "--install", str(installed), "--device", "cpu"]

    process = subprocess.Popen([sys.executable, "-m", "train_jobs.pretrain_base", *arguments])
    while process.poll() is None and not (run / "checkpoint.pt").exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed_at = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < killed_at < config.steps
    assert not installed.exists()

    monkeypatch.setattr(sys, "argv", ["pretrain_base", *arguments])
    pretrain_base.main()
    assert steps_of(run) == list(range(1, config.steps + 1))
    assert {"README.md", "LICENSE.md", "tokenizer.json", "model.safetensors"} <= {
        path.name for path in installed.iterdir()
    }
    uninterrupted = Pretraining(tmp_path / "other", lines, config)
    uninterrupted.run()
    auto_model: Any = AutoModelForCausalLM
    expected = {name: tensor.bfloat16() for name, tensor in states(uninterrupted).items()}
    assert_same(auto_model.from_pretrained(installed).state_dict(), expected)
