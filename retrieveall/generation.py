"""From a routed sentence with its examples to entities: windows, prompts, engine rows, spans.

The part of the tagger behind routing and retrieval; the in-process tagger, the service's generator
and the offline job all call it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from retrieveall.engine.protocol import Decoded, Engine, Row
from retrieveall.errors import DeadlineExceeded, Overloaded
from retrieveall.guessing import guess_spans
from retrieveall.prompting.codec import EncodedText, PromptCodec
from retrieveall.prompting.hierarchical import DEFAULT_BUDGET_TOKENS, build_prompt
from retrieveall.text.units import split_units
from retrieveall.text.windows import split_windows
from retrieveall.types import Composition, Entity, Examples, Span, UnitScores

_WINDOW_SHARE = 0.6  # of the prompt budget; the rest is for examples and markers
ROW_TIMEOUT_S = 600.0  # without a word from the engine; an own deadline usually passes long before


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationTask:
    """One sentence to tag.

    Attributes:
        text: The sentence.
        labels: Labels that may be emitted.
        adapters: ``(digest, weight)`` pairs, empty for the base alone.
        composition: How several adapters act together.
        examples: What retrieval found, strongest first.
        deadline_s: On the clock of ``time.monotonic``.
    """

    text: str
    labels: tuple[str, ...]
    adapters: tuple[tuple[str, float], ...]
    composition: Composition = "selection"
    examples: Examples = field(default_factory=Examples)
    deadline_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """The answer for one sentence; entity offsets are the sentence's.

    Attributes:
        examples_dropped: Examples that did not fit, the largest number over the windows.
    """

    entities: tuple[Entity, ...]
    examples_dropped: int
    prompt_tokens: int
    new_tokens: int
    forward_passes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    task: int
    start_char: int
    row: Row
    examples_dropped: int


class Generator:
    """Tags sentences with one engine.

    Args:
        engine: Decodes rows.
        codec: The engine's codec.
        budget_tokens: Longest prompt.
        row_timeout_s: How long the oldest row may take.
    """

    def __init__(
        self,
        engine: Engine,
        codec: PromptCodec,
        *,
        budget_tokens: int = DEFAULT_BUDGET_TOKENS,
        row_timeout_s: float = ROW_TIMEOUT_S,
    ) -> None:
        self._engine, self._codec, self._budget_tokens = engine, codec, budget_tokens
        self._row_timeout_s = row_timeout_s

    def generate(self, tasks: Sequence[GenerationTask]) -> list[Generated]:
        """Tags sentences of any languages together, answers in the order of the tasks.

        When the engine is full this waits for the oldest row and tries again.

        Raises:
            DeadlineExceeded: A task's deadline passed, or the engine gave no answer in time.
            Overloaded: The engine is full of other callers' rows.
            RetrieveAllError: Whatever the engine says of an adapter that cannot be used.
        """
        windows = (window for index, task in enumerate(tasks) for window in self._windows(index, task))
        answers: list[list[tuple[_Window, Decoded]]] = [[] for _ in tasks]
        for window, decoded in self._decode(windows):
            answers[window.task].append((window, decoded))
        return [_joined(task.text, parts) for task, parts in zip(tasks, answers, strict=True)]

    def _windows(self, index: int, task: GenerationTask) -> Iterator[_Window]:
        encoded = self._codec.text(task.text)
        limit = round(self._budget_tokens * _WINDOW_SHARE)
        fits = len(encoded.ids) <= limit
        whole = (Span(start_char=0, end_char=len(task.text)),)
        for span in whole if fits else split_windows(task.text, encoded, max_tokens=limit):
            part = encoded if fits else self._codec.text(task.text[span.start_char : span.end_char])
            if part.units:
                yield self._window(index, span.start_char, task, part)

    def _window(self, index: int, start_char: int, task: GenerationTask, part: EncodedText) -> _Window:
        prompt = build_prompt(self._codec, part, task.examples, budget_tokens=self._budget_tokens)
        text = task.text[start_char : start_char + part.units[-1].end_char]
        prior = _prior_of(task, part, start_char)
        row = Row(
            prompt_ids=prompt.ids,
            sentence=part,
            labels=task.labels,
            adapters=task.adapters,
            composition=task.composition,
            guess=guess_spans(text, part, task.examples, task.labels, prior),
            prior=prior,
            deadline_s=task.deadline_s,
        )
        return _Window(task=index, start_char=start_char, row=row, examples_dropped=prompt.examples_dropped)

    def _decode(self, windows: Iterator[_Window]) -> Iterator[tuple[_Window, Decoded]]:
        pending: deque[tuple[_Window, Future[Decoded]]] = deque()
        try:
            for window in windows:
                while (future := self._try_submit(window.row, can_wait=bool(pending))) is None:
                    yield self._take(pending)
                pending.append((window, future))
            while pending:
                yield self._take(pending)
        finally:
            for _, future in pending:
                future.cancel()

    def _try_submit(self, row: Row, *, can_wait: bool) -> Future[Decoded] | None:
        try:
            return self._engine.submit(row)
        except Overloaded:
            if not can_wait:
                raise
            return None

    def _take(self, pending: deque[tuple[_Window, Future[Decoded]]]) -> tuple[_Window, Decoded]:
        window, future = pending[0]
        try:
            future.exception(timeout=self._row_timeout_s)  # unlike futures.wait it ends with a cancelled row
        except TimeoutError:
            raise DeadlineExceeded(
                f"The engine gave no answer for {self._row_timeout_s:g} s. Send fewer texts at once, or"
                " look at the engine's log."
            ) from None
        pending.popleft()
        return window, future.result()


def _prior_of(task: GenerationTask, part: EncodedText, start_char: int) -> UnitScores | None:
    """Returns what the prior says of a window's units and the labels that may be emitted."""
    whole = task.examples.prior and task.examples.prior.of_labels(task.labels)
    if whole is None:
        return None
    first_unit = len(split_units(task.text[:start_char]))
    return whole.part(first_unit, first_unit + len(part.units))


def _joined(text: str, parts: Sequence[tuple[_Window, Decoded]]) -> Generated:
    entities = tuple(
        Entity(
            start_char=window.start_char + span.start_char,
            end_char=window.start_char + span.end_char,
            label=span.label,
            text=text[window.start_char + span.start_char : window.start_char + span.end_char],
            score=math.exp(span.logprob),
        )
        for window, decoded in parts
        for span in decoded.spans
    )
    return Generated(
        entities=entities,
        examples_dropped=max((window.examples_dropped for window, _ in parts), default=0),
        prompt_tokens=sum(decoded.prompt_tokens for _, decoded in parts),
        new_tokens=sum(decoded.new_tokens for _, decoded in parts),
        forward_passes=sum(decoded.forward_passes for _, decoded in parts),
    )
