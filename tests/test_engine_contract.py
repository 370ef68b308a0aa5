"""What every engine promises, whatever decodes inside."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

import pytest

from retrieveall.engine.echo import EchoEngine
from retrieveall.engine.protocol import Decoded, EngineStats, Row
from retrieveall.engine.transformers_engine import EngineConfig, TransformersEngine
from retrieveall.errors import (
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InputError,
    NotFoundError,
    Overloaded,
)
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import build_prompt
from retrieveall.types import Examples
from tests.models import LABELS, SENTENCES, save_tiny_base

TIMEOUT_S = 30.0


class AnyEngine(Protocol):
    codec: PromptCodec

    def submit(self, row: Row) -> Future[Decoded]: ...
    def stats(self) -> EngineStats: ...
    def close(self) -> None: ...


Factory = Callable[[int], AnyEngine]  # from max_waiting_rows


def no_adapter(digest: str) -> Path:
    raise AssertionError(digest)


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=["echo", "transformers"])
def factory(request: pytest.FixtureRequest, base_dir: Path) -> Iterator[Factory]:
    engines: list[AnyEngine] = []

    def make(max_waiting_rows: int = 64) -> AnyEngine:
        config = EngineConfig(
            base_model=base_dir, max_waiting_rows=max_waiting_rows, max_batch_rows=4, threads=1
        )
        engine: AnyEngine = TransformersEngine(config, no_adapter)
        if request.param == "echo":
            codec = engine.codec
            engine.close()
            engine = EchoEngine(
                codec, max_batch_rows=4, max_waiting_rows=max_waiting_rows, sleep_s_per_step=0.001
            )
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def row(
    engine: AnyEngine, text: str, *, labels: tuple[str, ...] = LABELS, deadline_s: float | None = None
) -> Row:
    encoded = engine.codec.text(text)
    prompt = build_prompt(engine.codec, encoded, Examples())
    return Row(prompt_ids=prompt.ids, sentence=encoded, labels=labels, deadline_s=deadline_s)


def test_spans_are_units_of_the_sentence_in_order(factory: Factory) -> None:
    engine = factory(64)
    futures = [engine.submit(row(engine, text)) for text in SENTENCES]
    for text, future in zip(SENTENCES, futures, strict=True):
        decoded = future.result(TIMEOUT_S)
        encoded = engine.codec.text(text)
        borders = [border for span in decoded.spans for border in (span.start_char, span.end_char)]
        assert borders == sorted(borders)
        for span in decoded.spans:
            assert encoded.unit_range(span.start_char, span.end_char) is not None
            assert span.label in LABELS
            assert span.logprob <= 0.0
        assert decoded.new_tokens >= 1
        assert decoded.forward_passes <= decoded.new_tokens


def test_answers_do_not_depend_on_company(factory: Factory) -> None:
    engine = factory(64)
    alone = [engine.submit(row(engine, text)).result(TIMEOUT_S).spans for text in SENTENCES]
    futures = [engine.submit(row(engine, text)) for text in reversed(SENTENCES)]
    together = [future.result(TIMEOUT_S).spans for future in futures]
    assert [spans_of(spans) for spans in reversed(together)] == [spans_of(spans) for spans in alone]


def spans_of(spans: tuple[object, ...]) -> list[tuple[object, ...]]:
    return [(span.start_char, span.end_char, span.label) for span in spans]  # type: ignore[attr-defined]


def test_empty_text_has_no_entities(factory: Factory) -> None:
    engine = factory(64)
    assert engine.submit(row(engine, "")).result(TIMEOUT_S).spans == ()


def test_many_threads_may_submit(factory: Factory) -> None:
    engine = factory(256)
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(lambda index: engine.submit(row(engine, SENTENCES[index % 8])), range(40)))
    answers = [future.result(TIMEOUT_S).spans for future in futures]
    assert all(spans_of(answer) == spans_of(answers[index % 8]) for index, answer in enumerate(answers))
    stats = engine.stats()
    assert stats.rows_done == 40
    assert stats.rows_waiting == 0
    assert stats.new_tokens >= 40


def test_rows_without_labels_fail_alone(factory: Factory) -> None:
    engine = factory(64)
    bad = engine.submit(row(engine, SENTENCES[0], labels=()))
    good = engine.submit(row(engine, SENTENCES[0]))
    with pytest.raises(InputError, match="No labels"):
        bad.result(TIMEOUT_S)
    assert good.result(TIMEOUT_S).new_tokens >= 1
    assert engine.stats().rows_failed == 1


def test_a_passed_deadline_fails_the_row(factory: Factory) -> None:
    engine = factory(64)
    late = engine.submit(row(engine, SENTENCES[0], deadline_s=time.monotonic() - 1))
    timely = engine.submit(row(engine, SENTENCES[0], deadline_s=time.monotonic() + TIMEOUT_S))
    with pytest.raises(DeadlineExceeded, match="Give more time"):
        late.result(TIMEOUT_S)
    timely.result(TIMEOUT_S)
    assert engine.stats().rows_failed == 1


def submit_until_refused(engine: AnyEngine, row: Row) -> tuple[list[Future[Decoded]], Overloaded]:
    accepted: list[Future[Decoded]] = []
    for _ in range(500):
        try:
            future = engine.submit(row)
        except Overloaded as refusal:
            return accepted, refusal
        accepted.append(future)
    raise AssertionError("500 rows were accepted")


def test_a_full_queue_refuses_and_recovers(factory: Factory) -> None:
    engine = factory(2)
    long_row = row(engine, " ".join(SENTENCES[:6]))
    accepted, refusal = submit_until_refused(engine, long_row)
    assert re.search(r"Try again after \d+ seconds", str(refusal))
    assert accepted
    wait(accepted, TIMEOUT_S)
    engine.submit(long_row).result(TIMEOUT_S)


def test_cancelled_rows_make_room(factory: Factory) -> None:
    engine = factory(2)
    long_row = row(engine, " ".join(SENTENCES[:6]))
    waiting, _ = submit_until_refused(engine, long_row)
    assert waiting[-1].cancel()
    replacement = engine.submit(long_row)
    assert replacement.result(TIMEOUT_S).new_tokens >= 1
    with pytest.raises(CancelledError):
        waiting[-1].result(0)


def test_close_fails_what_waits_and_refuses_more(factory: Factory) -> None:
    engine = factory(64)
    futures = [engine.submit(row(engine, " ".join(SENTENCES[:6]))) for _ in range(40)]
    engine.close()
    outcomes = [future.exception(TIMEOUT_S) for future in futures]
    assert isinstance(outcomes[-1], EngineClosed)
    assert all(outcome is None or isinstance(outcome, EngineClosed) for outcome in outcomes)
    with pytest.raises(EngineClosed, match="Start a new one"):
        engine.submit(row(engine, "late"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("dtype", "int8"), ("max_batch_rows", 0), ("threads", 0), ("adapter_bytes", -1), ("memory_share", 1.5)],
)
def test_settings_are_checked(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        EngineConfig(base_model="tiny", **{field: value})  # type: ignore[arg-type]


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="neither `tiny` nor a folder"):
        TransformersEngine(EngineConfig(base_model=tmp_path), no_adapter)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        TransformersEngine(EngineConfig(base_model=tmp_path), no_adapter)
