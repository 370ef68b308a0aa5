"""Every row of a mixed batch gets the tokens of PEFT's own model with that row's adapter alone."""

from __future__ import annotations

import dataclasses
import itertools
import random
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM

from retrieveall.engine.automaton import TagLineAutomaton, label_grammar
from retrieveall.engine.protocol import Decoded, GuessedSpan, Row
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.types import Composition, EntityExample, Examples
from tests.models import (
    ARCHITECTURES,
    LABELS,
    SENTENCES,
    Architecture,
    save_tiny_adapter,
    save_tiny_base,
    tiny_model,
)

TIMEOUT_S = 60.0
ADAPTERS: dict[str, dict[str, Any]] = {  # ranks, scales and layers all differ
    "en": {"rank": 8, "alpha": 16.0, "seed": 1},
    "de": {"rank": 16, "alpha": 8.0, "seed": 2},
    "ru": {"rank": 4, "alpha": 12.0, "seed": 3, "use_rslora": True},
    "sw": {"rank": 8, "alpha": 24.0, "seed": 4, "targets": ("q_proj", "v_proj", "down_proj")},
}


class World:
    """A saved base with adapters, an engine on it, and the reference."""

    def __init__(self, folder: Path, architecture: Architecture, **settings: Any) -> None:
        self.folder = folder
        self.base_dir = save_tiny_base(folder / "base", architecture)
        base = tiny_model(architecture)
        for name, recipe in ADAPTERS.items():
            save_tiny_adapter(folder / name, base, **recipe)
        config = EngineConfig(base_model=self.base_dir, dtype="float64", threads=1, **settings)
        self.engine = TransformersEngine(config, self.resolve)
        self.codec = self.engine.codec
        self._models: dict[str | None, Any] = {}
        self._expected: dict[Any, list[tuple[int, int, str, Any]]] = {}

    def resolve(self, digest: str) -> Path:
        if not (self.folder / digest).exists():
            raise NotFoundError(f"There is no adapter {digest}.")
        return self.folder / digest

    def row(
        self,
        text: str,
        adapters: tuple[tuple[str, float], ...] = (),
        composition: Composition = "selection",
        examples: int = 0,
    ) -> Row:
        encoded = self.codec.text(text)
        shown = tuple(EntityExample(mention="Den Haag", label="LOC") for _ in range(examples))
        prompt = build_prompt(self.codec, encoded, Examples(entity=shown))
        return Row(
            prompt_ids=prompt.ids,
            sentence=encoded,
            labels=LABELS,
            adapters=adapters,
            composition=composition,
        )

    def decode(self, rows: list[Row]) -> list[Decoded]:
        futures = [self.engine.submit(row) for row in rows]
        return [future.result(TIMEOUT_S) for future in futures]

    def base(self) -> Any:
        auto: Any = AutoModelForCausalLM
        return auto.from_pretrained(self.base_dir, dtype=torch.float64).eval()

    def peft_model(self, digest: str) -> Any:
        """The numerical reference: PEFT with this adapter alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return peft.PeftModel.from_pretrained(self.base(), str(self.folder / digest)).eval()

    def merged_model(self, row: Row) -> Any:
        """The base with a row's composition written into its weights, from the formulas of docs/method.md."""
        model = self.base()
        linears = dict(model.named_modules())
        for name, delta in self.deltas(row).items():
            linears[name].weight.data += delta
        return model

    def expected(self, row: Row) -> list[tuple[int, int, str, Any]]:
        """What PEFT's model with the row's one adapter answers; computed once for each kind of row."""
        key = (row.prompt_ids, row.adapters)
        if key not in self._expected:
            digest = row.adapters[0][0] if row.adapters else None
            if digest not in self._models:
                self._models[digest] = self.peft_model(digest) if digest else self.base()
            self._expected[key] = reference(self._models[digest], self.codec, row)
        return self._expected[key]

    def deltas(self, row: Row) -> dict[str, torch.Tensor]:
        sums: dict[str, list[Any]] = {}
        for digest, weight in row.adapters:
            for name, layer in self.peft_model(digest).base_model.model.named_modules():
                if hasattr(layer, "lora_A"):
                    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
                    b = b * layer.scaling["default"]
                    rank = 16 - a.shape[0]  # padded to the largest
                    pads = functional.pad(a, (0, 0, 0, rank)), functional.pad(b, (0, rank))
                    sums.setdefault(name, []).append((weight * pads[0], weight * pads[1], weight * b @ a))
        if row.composition == "fusion":
            return {
                name: sum(b for _, b, _ in parts) @ sum(a for a, _, _ in parts)
                for name, parts in sums.items()
            }
        return {name: sum(delta for _, _, delta in parts) for name, parts in sums.items()}


def reference(model: Any, codec: PromptCodec, row: Row) -> list[tuple[int, int, str, Any]]:
    """Greedy decoding without batch, cache, drafts or gathered logits."""
    automaton = TagLineAutomaton(
        row.sentence, label_grammar(row.labels, tuple(map(codec.label, row.labels))), codec.end_id
    )
    ids = list(row.prompt_ids)
    with torch.inference_mode():
        while not automaton.finished:
            allowed = list(automaton.allowed())
            logprobs = (
                model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1][allowed].log_softmax(-1)
            )
            best = int(logprobs.argmax())
            automaton.advance(allowed[best], float(logprobs[best]))
            ids.append(allowed[best])
    return spans_of(automaton)


def spans_of(answer: Any) -> list[tuple[int, int, str, Any]]:
    spans = answer.spans() if callable(answer.spans) else answer.spans
    return [(span.start_char, span.end_char, span.label, Close(span.logprob)) for span in spans]


class Close(float):
    """A number that equals its neighbours: norms run in float32, and batches round differently."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - float(other)) < 1e-5


@pytest.fixture(scope="module", params=ARCHITECTURES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp(request.param), request.param, max_batch_rows=16)
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("alone"), "llama", max_batch_rows=16, adapter_capacity=3)
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
    """The draft of a guess that is never right is fed with the first rows only."""
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
    assert 0 < drafted[1] == drafted[-1]


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


def test_more_adapters_than_fit_take_turns(llama: World) -> None:
    rows = [llama.row(text, ((digest, 1.0),)) for text in SENTENCES[:3] for digest in ADAPTERS]
    answers = llama.decode(rows)
    assert len(llama.engine.stats().adapters) <= 3
    again = llama.decode(rows[:4])
    assert [spans_of(answer) for answer in again] == [spans_of(answer) for answer in answers[:4]]


def test_rows_put_back_outlive_a_pass_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One adapter fits at a time, so the second row waits while the first one's pass breaks."""
    world = World(tmp_path, "llama", adapter_capacity=1)
    whole = world.engine._running.join

    def broken_once(rows: Any) -> None:
        monkeypatch.setattr(world.engine._running, "join", whole)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(world.engine._running, "join", broken_once)
    futures = [world.engine.submit(world.row(SENTENCES[0], ((digest, 1.0),))) for digest in ("en", "de")]
    assert isinstance(futures[0].exception(TIMEOUT_S), RuntimeError)
    assert spans_of(futures[1].result(TIMEOUT_S)) == world.expected(world.row(SENTENCES[0], (("de", 1.0),)))
    world.engine.close()


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
