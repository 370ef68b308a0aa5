"""What the tagger asks of an engine: rows of any languages in, spans out.

An engine owns the base model, the adapters it holds and its batching; it knows nothing of
retrieval, routing or HTTP. Every engine of the project passes tests/test_engine_contract.py.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from retrieveall.prompting.codec import EncodedText
from retrieveall.types import Composition, UnitScores


@dataclass(frozen=True, kw_only=True, slots=True)
class GuessedSpan:
    """A mention that a sentence may have: units ``first_unit`` to before ``end_unit``."""

    first_unit: int
    end_unit: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sentence to decode.

    Attributes:
        prompt_ids: The hierarchical prompt, ready for the model.
        sentence: The sentence, encoded with the engine's codec; mentions are runs of its units.
        labels: The labels that may be emitted, at least one.
        adapters: ``(digest, weight)`` pairs; empty means the base model alone.
        composition: How several adapters act together (LoraRetriever: selection, mixture, fusion).
        guess: Mentions in order, none inside another, that the engine may try first. They never change
            the answer, only the number of forward passes.
        prior: What the prior says of the sentence's units; None leaves all to the model.
        deadline_s: Time on the engine's clock (``time.monotonic``) after which the row is dropped.
    """

    prompt_ids: tuple[int, ...]
    sentence: EncodedText
    labels: tuple[str, ...]
    adapters: tuple[tuple[str, float], ...] = ()
    composition: Composition = "selection"
    guess: tuple[GuessedSpan, ...] = ()
    prior: UnitScores | None = field(default=None, compare=False)
    deadline_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedSpan:
    """A mention: its characters in the sentence, its label and how sure the model is.

    Attributes:
        logprob: Natural logarithm, over the branching decisions inside the entity (start, end,
            label), of the probability renormalised over the allowed continuations, the prior's say
            counted. Forced tokens count 1. Source: own choice.
    """

    start_char: int
    end_char: int
    label: str
    logprob: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """An engine's answer for one row, spans in order of appearance, with what it cost."""

    spans: tuple[DecodedSpan, ...]
    prompt_tokens: int
    new_tokens: int
    forward_passes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryUse:
    """Bytes that an engine holds beside its base.

    Attributes:
        budget_bytes: All the others together never have more.
        kv_bytes: Keys and values, whether rows use them or not.
        adapter_bytes: Adapters and what is fused of them.
        stack_bytes: Copies of adapters that act together.
    """

    budget_bytes: int = 0
    kv_bytes: int = 0
    adapter_bytes: int = 0
    stack_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStats:
    """Counters since the engine started, and what it holds now.

    Attributes:
        drafted_tokens: Tokens that were tried before they were chosen …
        accepted_tokens: … and how many of them were then chosen.
        splits: How often a batch was halved because the device's memory was full.
    """

    rows_done: int
    rows_failed: int
    rows_waiting: int
    batches: int
    prompt_tokens: int
    new_tokens: int
    forward_passes: int
    adapters: tuple[str, ...]
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    splits: int = 0
    memory: MemoryUse = field(default_factory=MemoryUse)


class Engine(Protocol):
    """Decodes rows; thread-safe."""

    def submit(self, row: Row) -> Future[Decoded]:
        """Queues a row. Cancelling the future frees it.

        Raises:
            Overloaded: The queue is full.
            EngineClosed: `close` was called.
        """
        ...

    def stats(self) -> EngineStats:
        """Returns the counters."""
        ...

    def close(self) -> None:
        """Stops the engine; waiting rows fail with `EngineClosed`."""
        ...
