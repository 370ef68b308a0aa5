"""Every row of a mixed batch gets the tokens of PEFT's own model with that row's adapter alone."""

from __future__ import annotations

import dataclasses
import itertools
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from retrieveall.engine.protocol import Decoded, GuessedSpan, Row
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.types import Composition, Examples
from tests.engine_world import ADAPTERS, TIMEOUT_S, World, greedy, reference, spans_of
from tests.models import (
    ARCHITECTURES,
    LABELS,
    SENTENCES,
    Architecture,
    save_tiny_adapter,
    save_tiny_base,
    tiny_model,
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp(request.param), request.param, max_batch_rows=16)
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("alone"), "llama", max_batch_rows=16)
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("few"), "qwen3", max_batch_rows=3)
    yield made
    made.engine.close()


def test_rows_equal_peft_with_their_adapter_alone(world: World) -> None:
    digests = [*ADAPTERS, None]
    rows = [
        world.row(text, ((digest, 1.0),) if digest else (), examples=index % 3)
        for index, (text, digest) in enumerate(zip(SENTENCES, itertools.cycle(digests)))
    ]
    models = {digest: world.peft_model(digest) if digest else world.base() for digest in digests}
    random.Random(5).shuffle(rows)
    answers = world.decode(rows)
    expected = [
        reference(models[row.adapters[0][0] if row.adapters else None], world.codec, row) for row in rows
    ]
    assert [spans_of(answer) for answer in answers] == expected
    assert sum(map(len, expected)) > len(rows)  # the random models do tag something
    assert world.engine.stats().batches < len(rows)


@settings(max_examples=8)
@given(data=st.data())
def test_rows_join_and_leave_without_touching_each_other(few: World, data: st.DataObject) -> None:
    """Three rows at a time, so that nearly every step somebody joins or leaves."""
    kinds = st.tuples(st.sampled_from(SENTENCES), st.sampled_from([None, *ADAPTERS]), st.integers(0, 5))
    picked = data.draw(st.lists(kinds, min_size=1, max_size=14))
    rows = [few.row(text, ((digest, 1.0),) if digest else (), examples=n) for text, digest, n in picked]
    rows = [dataclasses.replace(row, guess=data.draw(guesses(len(row.sentence.units)))) for row in rows]
    answers = few.decode(rows)
    expected = [few.expected(row) for row in rows]
    assert [spans_of(answer) for answer in answers] == expected


def test_a_right_guess_saves_passes_and_changes_nothing(few: World) -> None:
    rows = [few.row(text, (("de", 1.0),)) for text in SENTENCES]
    plain = few.decode(rows)
    assert sum(answer.forward_passes for answer in plain) > 2 * len(rows)
    guessed = [
        dataclasses.replace(row, guess=true_guess(row, answer))
        for row, answer in zip(rows, plain, strict=True)
    ]
    answers = few.decode(guessed)
    assert [spans_of(answer) for answer in answers] == [spans_of(answer) for answer in plain]
    passes = [(one.forward_passes, other.forward_passes) for one, other in zip(answers, plain, strict=True)]
    assert all(one <= other for one, other in passes)
    assert sum(one for one, _ in passes) < 0.6 * sum(other for _, other in passes)
    stats = few.engine.stats()
    assert 0 < stats.accepted_tokens <= stats.drafted_tokens


def test_wrong_guesses_are_given_up_and_change_nothing(tmp_path: Path) -> None:
    """The draft of a guess that is never right is fed with the first rows, and with some after a pause."""
    world = World(tmp_path, "llama", max_batch_rows=4)
    rows = [world.row(text, (("en", 1.0),)) for text in SENTENCES] * 6
    plain = world.decode(rows)
    wrong = [
        dataclasses.replace(row, guess=wrong_guess(row, answer))
        for row, answer in zip(rows, plain, strict=True)
    ]
    drafted = []
    for start in range(0, len(wrong), len(SENTENCES)):
        answers = world.decode(wrong[start : start + len(SENTENCES)])
        assert [spans_of(one) for one in answers] == [
            spans_of(other) for other in plain[start : start + len(SENTENCES)]
        ]
        drafted.append(world.engine.stats().drafted_tokens)
    world.engine.close()
    assert 0 < drafted[0] == drafted[2] < drafted[-1] < 3 * drafted[0]


def wrong_guess(row: Row, answer: Decoded) -> tuple[GuessedSpan, ...]:
    """Every unit a mention of a label that the model does not give the mention that begins there."""
    label = {row.sentence.unit_range(s.start_char, s.end_char): s.label for s in answer.spans}
    return tuple(
        GuessedSpan(first_unit=i, end_unit=i + 1, label=next(x for x in LABELS if x != label.get((i, i + 1))))
        for i in range(len(row.sentence.units))
    )


def true_guess(row: Row, answer: Decoded) -> tuple[GuessedSpan, ...]:
    places = [(row.sentence.unit_range(span.start_char, span.end_char), span.label) for span in answer.spans]
    return tuple(GuessedSpan(first_unit=p[0], end_unit=p[1], label=label) for p, label in places if p)


@st.composite
def guesses(draw: st.DrawFn, units: int) -> tuple[GuessedSpan, ...]:
    """Mentions in order, some with labels that nobody knows; mostly wrong."""
    borders = sorted(draw(st.lists(st.integers(0, units), max_size=6)))
    pairs = [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=False) if a < b]
    return tuple(
        GuessedSpan(first_unit=a, end_unit=b, label=draw(st.sampled_from([*LABELS, "ANIMAL"])))
        for a, b in pairs
    )


def test_an_adapter_that_changes_its_digest_is_another_adapter(few: World) -> None:
    """A reload under way: rows of the old and of the new weights share batches."""
    shutil.copytree(few.folder / "de", few.folder / "en-new", dirs_exist_ok=True)
    rows = [few.row(text, ((digest, 1.0),)) for text in SENTENCES[:4] for digest in ("en", "en-new")]
    answers = few.decode(rows)
    assert [spans_of(answer) for answer in answers] == [few.expected(row) for row in rows]


def test_adapters_differ_enough_to_be_mixed_up(llama: World) -> None:
    text = SENTENCES[2]
    answers = llama.decode([llama.row(text, ((digest, 1.0),)) for digest in list(ADAPTERS)[:3]])
    answers += llama.decode([llama.row(text)])
    assert len({str([(s.start_char, s.end_char, s.label) for s in answer.spans]) for answer in answers}) == 4


@pytest.mark.parametrize("composition", ["mixture", "fusion"])
def test_compositions_equal_merged_weights(llama: World, composition: Composition) -> None:
    adapters = (("en", 0.5), ("de", 0.3), ("sw", 0.2))
    rows = [llama.row(text, adapters, composition) for text in SENTENCES[:4]]
    others = [llama.row(text, (("de", 1.0),)) for text in SENTENCES[4:7]] + [llama.row(SENTENCES[7])]
    mixed = [row for pair in zip(rows, others, strict=True) for row in pair]
    answers = llama.decode(mixed)
    model = llama.merged_model(rows[0])
    assert [spans_of(answer) for answer in answers[::2]] == [
        reference(model, llama.codec, row) for row in rows
    ]
    plain = llama.peft_model("de")
    assert spans_of(answers[1]) == reference(plain, llama.codec, others[0])


def test_forced_tokens_cost_no_pass(llama: World) -> None:
    answer = llama.decode([llama.row(SENTENCES[1], (("en", 1.0),))])[0]
    assert answer.new_tokens > answer.forward_passes >= 1
    assert answer.prompt_tokens == len(llama.row(SENTENCES[1]).prompt_ids)


def test_a_broken_adapter_fails_its_own_rows(llama: World) -> None:
    shutil.copytree(llama.folder / "en", llama.folder / "torn", dirs_exist_ok=True)
    (llama.folder / "torn" / "adapter_model.safetensors").write_bytes(b"not a tensor")
    futures: list[Future[Decoded]] = [
        llama.engine.submit(llama.row(SENTENCES[0], adapters))
        for adapters in ((("en", 1.0),), (("torn", 1.0),), (("gone", 1.0),), ())
    ]
    assert isinstance(futures[1].exception(TIMEOUT_S), IncompatibleArtefactError)
    assert isinstance(futures[2].exception(TIMEOUT_S), NotFoundError)
    expected = reference(llama.peft_model("en"), llama.codec, llama.row(SENTENCES[0]))
    assert spans_of(futures[0].result(TIMEOUT_S)) == expected
    assert futures[3].result(TIMEOUT_S).new_tokens >= 1


def test_a_repaired_adapter_is_taken_up(llama: World) -> None:
    row = llama.row(SENTENCES[0], (("later", 1.0),))
    assert isinstance(llama.engine.submit(row).exception(TIMEOUT_S), NotFoundError)
    shutil.copytree(llama.folder / "en", llama.folder / "later")
    assert llama.decode([row])[0].spans == llama.decode([llama.row(SENTENCES[0], (("en", 1.0),))])[0].spans


def test_rows_of_the_embedded_base_equal_the_merged_model(tmp_path: Path) -> None:
    """In float32 a close choice may fall either way, so rows with one are counted instead."""
    ranks = {"en": 4, "de": 16, "ru": 8}
    recipes = {name: {"rank": r, "alpha": 2.0 * r, "seed": r, "std": 0.04} for name, r in ranks.items()}
    world = World(tmp_path, None, adapters=recipes, dtype="float32")
    rows = [
        world.row(text, ((digest, 1.0),), examples=index)
        for index, text in enumerate(SENTENCES[3:5])
        for digest in recipes
    ]
    random.Random(3).shuffle(rows)
    answers = world.decode(rows)
    world.engine.close()
    models = {row.adapters: world.merged_model(row) for row in rows}
    compared = 0
    for row, answer in zip(rows, answers, strict=True):
        line, gap = greedy(models[row.adapters], world.codec, row)
        if gap >= 1e-4:
            compared += 1
            assert [span[:3] for span in spans_of(answer)] == [span[:3] for span in spans_of(line)]
    assert compared >= len(rows) - 1
    assert len({str(spans_of(answer)) for answer in answers}) > len(rows) // 2  # adapters and texts tell


def test_selection_takes_one_adapter(llama: World) -> None:
    row = llama.row(SENTENCES[0], (("en", 0.5), ("de", 0.5)))
    assert isinstance(llama.engine.submit(row).exception(TIMEOUT_S), InputError)


def test_prompts_beyond_the_positions_fail_alone(llama: World) -> None:
    long = dataclasses.replace(llama.row(SENTENCES[0]), prompt_ids=(5,) * 1025)
    futures = [llama.engine.submit(long), llama.engine.submit(llama.row(SENTENCES[0]))]
    assert isinstance(futures[0].exception(TIMEOUT_S), InputError)
    assert futures[1].result(TIMEOUT_S).new_tokens >= 1


@pytest.mark.parametrize("architecture", ["gemma3", "mistral"])
def test_sliding_windows_shorter_than_the_prompt(tmp_path: Path, architecture: Architecture) -> None:
    base_dir = save_tiny_base(tmp_path / "base", architecture, sliding_window=16)
    engine = TransformersEngine(
        EngineConfig(base_model=base_dir, dtype="float64", threads=1), lambda _: tmp_path
    )
    rows = []
    for text in SENTENCES[:6]:
        encoded = engine.codec.text(text)
        rows.append(
            Row(
                prompt_ids=build_prompt(engine.codec, encoded, Examples()).ids,
                sentence=encoded,
                labels=LABELS,
            )
        )
    futures = [engine.submit(row) for row in rows]
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(base_dir, dtype=torch.float64).eval()
    expected = [reference(model, engine.codec, row) for row in rows]
    found = [spans_of(future.result(TIMEOUT_S)) for future in futures]
    engine.close()
    assert found == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_number_formats_decode(tmp_path: Path, dtype: str) -> None:
    base_dir = save_tiny_base(tmp_path / "base")
    adapter = save_tiny_adapter(tmp_path / "adapter", tiny_model())
    engine = TransformersEngine(EngineConfig(base_model=base_dir, dtype=dtype, threads=1), lambda _: adapter)
    encoded = engine.codec.text(SENTENCES[0])
    row = Row(
        prompt_ids=build_prompt(engine.codec, encoded, Examples()).ids,
        sentence=encoded,
        labels=LABELS,
        adapters=(("any", 1.0),),
    )
    decoded = engine.submit(row).result(TIMEOUT_S)
    engine.close()
    assert all(span.logprob <= 0 for span in decoded.spans)
