"""From sentences to entities: windows, offsets, a full engine, a silent one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.engine.echo import EchoEngine
from retrieveall.engine.protocol import Decoded, DecodedSpan, EngineStats, Row
from retrieveall.errors import DeadlineExceeded, InputError, Overloaded
from retrieveall.generation import GenerationTask, Generator
from retrieveall.prompting.codec import EncodedText, PromptCodec
from retrieveall.text.units import split_units
from retrieveall.text.windows import split_windows
from retrieveall.types import ContextExample, EntityExample, Examples
from tests.models import LABELS, tiny_tokenizer

CODEC = PromptCodec(tiny_tokenizer())
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.lists(
    st.sampled_from(
        ["Anna", "Bo", "sang", "<PER>", "\nTags:", ".", "東京", "ที่", "👩‍👩‍👧", "e\u0301", "\x00", "שלום"]
    ),
    max_size=40,
).map(" ".join)


class RecordingEngine:
    """Answers at once with one span per row, its first unit; refuses rows while too many are open."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.rows: list[Row] = []
        self._capacity, self._open = capacity, 0

    def submit(self, row: Row) -> Future[Decoded]:
        if self._open >= self._capacity:
            self._open = 0  # as if the rows had been decoded meanwhile
            raise Overloaded("Full. Try again after 1 seconds.")
        self._open += 1
        self.rows.append(row)
        future: Future[Decoded] = Future()
        future.set_result(self._decoded(row))
        return future

    def _decoded(self, row: Row) -> Decoded:
        unit = row.sentence.units[0]
        span = DecodedSpan(start_char=unit.start_char, end_char=unit.end_char, label="PER", logprob=-0.5)
        return Decoded(spans=(span,), prompt_tokens=len(row.prompt_ids), new_tokens=3, forward_passes=2)

    def stats(self) -> EngineStats:
        raise NotImplementedError

    def close(self) -> None: ...


class SilentEngine(RecordingEngine):
    """Takes rows and never answers; counts what was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.futures: list[Future[Decoded]] = []
        self.on_submit: Callable[[Future[Decoded]], None] = lambda future: None

    def submit(self, row: Row) -> Future[Decoded]:
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.on_submit(self.futures[0])
        return self.futures[-1]


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoEngine]:
    engine = EchoEngine(CODEC)
    yield engine
    engine.close()


def task(text: str, **fields: object) -> GenerationTask:
    return GenerationTask(text=text, labels=LABELS, adapters=(), **fields)  # type: ignore[arg-type]


def test_entities_are_cut_from_the_text_with_their_own_offsets(echo: EchoEngine) -> None:
    text = "Anna met Bo , Bo met Anna Smith ."
    (answer,) = Generator(echo, CODEC).generate([task(text)])

    found = [(entity.start_char, entity.text, entity.label, entity.score) for entity in answer.entities]
    assert found == [
        (0, "Anna", "PER", 1.0),
        (9, "Bo", "PER", 1.0),
        (14, "Bo", "PER", 1.0),
        (21, "Anna Smith", "PER", 1.0),
    ]


def test_answers_come_in_the_order_of_the_tasks(echo: EchoEngine) -> None:
    names = [f"N{index}" for index in range(70)]
    answers = Generator(echo, CODEC).generate([task(f"so {name} went") for name in names])

    assert [[entity.text for entity in answer.entities] for answer in answers] == [[name] for name in names]


def test_nothing_is_asked_of_the_engine_for_text_without_units() -> None:
    engine = RecordingEngine()
    answers = Generator(engine, CODEC).generate([task(""), task(" \n\t")])

    assert engine.rows == []
    assert [(answer.entities, answer.prompt_tokens) for answer in answers] == [((), 0), ((), 0)]


@given(TEXTS)
def test_windows_cover_every_unit_once_and_fit_the_budget(text: str) -> None:
    engine = RecordingEngine()
    (answer,) = Generator(engine, CODEC, budget_tokens=48).generate([task(text)])

    assert all(len(row.prompt_ids) <= 48 for row in engine.rows)
    assert [entity.text for entity in answer.entities] == [
        text[entity.start_char : entity.end_char] for entity in answer.entities
    ]
    starts = [entity.start_char for entity in answer.entities]
    assert starts == sorted(set(starts))
    assert "".join(spelled(row.sentence) for row in engine.rows) == spelled(CODEC.text(text))


def spelled(encoded: EncodedText) -> str:
    return "".join(CODEC.spelling(ids).strip(" ") for ids in encoded.unit_ids)


@settings(max_examples=30)
@given(st.integers(8, 60), st.integers(0, 300))
def test_a_unit_that_no_window_holds_is_cut_between_characters(max_tokens: int, length: int) -> None:
    text = f"see {'x🙂é' * length} there"
    windows = split_windows(text, CODEC.text(text), max_tokens=max_tokens)

    covered = [place for window in windows for place in range(window.start_char, window.end_char)]
    assert sorted(set(covered)) == covered
    assert {i for i, sign in enumerate(text) if sign != " "} <= set(covered)
    assert all(len(CODEC.text(text[w.start_char : w.end_char]).ids) <= max_tokens + 1 for w in windows)


def test_a_word_longer_than_a_prompt_is_no_obstacle(echo: EchoEngine) -> None:
    text = f"Anna sent {'aB3/' * 2_000} to Bo ."
    (answer,) = Generator(echo, CODEC).generate([task(text)])

    names = [(entity.start_char, entity.text) for entity in answer.entities]
    assert names[0] == (0, "Anna")
    assert names[-1] == (len(text) - 4, "Bo")


def test_examples_that_do_not_fit_are_counted_and_the_sentence_is_never_cut() -> None:
    engine = RecordingEngine()
    context = ContextExample(text="a " * 60, entities=())
    examples = Examples(entity=(EntityExample(mention="Anna", label="PER"),) * 4, context=(context,) * 2)
    short, long = Generator(engine, CODEC, budget_tokens=64).generate(
        [task("Bo sang", examples=examples), task("b " * 70, examples=examples)]
    )

    assert short.examples_dropped > 0
    assert long.examples_dropped == 6
    assert spelled(engine.rows[0].sentence) == "Bosang"


def test_a_full_engine_is_waited_for() -> None:
    engine = RecordingEngine(capacity=3)
    answers = Generator(engine, CODEC).generate([task(f"N{index}") for index in range(20)])

    assert [answer.entities[0].text for answer in answers] == [f"N{index}" for index in range(20)]
    assert len(engine.rows) == 20


def test_an_engine_full_of_the_rows_of_others_is_reported() -> None:
    with pytest.raises(Overloaded, match="Try again"):
        Generator(RecordingEngine(capacity=0), CODEC).generate([task("Anna")])


def test_a_small_queue_and_many_threads_lose_nothing() -> None:
    engine = EchoEngine(CODEC, max_waiting_rows=4, max_batch_rows=2)
    answers: dict[int, list[str]] = {}

    def tag(number: int) -> None:
        tasks = [task(f"N{number} and M{index}") for index in range(12)]
        while number not in answers:
            try:
                done = Generator(engine, CODEC).generate(tasks)
            except Overloaded:  # what a caller does with it: try again
                continue
            answers[number] = [entity.text for answer in done for entity in answer.entities]

    threads = [threading.Thread(target=tag, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    engine.close()
    assert answers == {n: [name for i in range(12) for name in (f"N{n}", f"M{i}")] for n in range(3)}


def test_a_silent_engine_is_an_error_and_frees_its_rows() -> None:
    engine = SilentEngine()
    with pytest.raises(DeadlineExceeded, match=r"no answer for 0.01 s"):
        Generator(engine, CODEC, row_timeout_s=0.01).generate([task("Anna"), task("Bo")])
    assert len(engine.futures) == 2
    assert all(future.cancelled() for future in engine.futures)


def test_a_cancelled_row_ends_the_wait_for_it_at_once() -> None:
    engine = SilentEngine()
    engine.on_submit = lambda future: threading.Timer(0.2, future.cancel).start()

    def ask() -> None:
        with pytest.raises(CancelledError):
            Generator(engine, CODEC, row_timeout_s=600).generate([task("Anna"), task("Bo")])

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(20)
    assert not asking.is_alive()  # a request whose client has left would keep its thread for the 600 seconds
    assert all(future.cancelled() for future in engine.futures)


def test_an_error_of_one_row_frees_the_others() -> None:
    engine = SilentEngine()
    generator = Generator(engine, CODEC)
    engine.on_submit = lambda future: future.set_exception(InputError("No labels"))
    with pytest.raises(InputError, match="No labels"):
        generator.generate([task("Anna"), *[task("Bo")] * 3])
    assert [future.cancelled() for future in engine.futures] == [False, True, True, True]


def test_a_deadline_is_handed_on(echo: EchoEngine) -> None:
    with pytest.raises(DeadlineExceeded):
        Generator(echo, CODEC).generate([task("Anna", deadline_s=0.0)])


@settings(max_examples=30)
@given(text=TEXTS)
def test_echoed_entities_start_and_end_on_units(echo: EchoEngine, text: str) -> None:
    (answer,) = Generator(echo, CODEC).generate([task(text)])

    units = split_units(text)
    assert {entity.start_char for entity in answer.entities} <= {unit.start_char for unit in units}
    assert {entity.end_char for entity in answer.entities} <= {unit.end_char for unit in units}
