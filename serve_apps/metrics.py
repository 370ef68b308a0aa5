"""What the service measures: every metric by name, and the protocol that records them. No Ray in here.

Ray exports each as ``ray_<name>`` (counters with ``_total`` behind it) with the tags ``deployment`` and
``replica``, at the metrics port of the node that the replica runs on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As it is recorded; Ray adds its prefix.
        kind: A counter is added to, a gauge set, a histogram observed.
        text: What it says, for people.
        tags: Names of its tags beside those that Serve adds.
        buckets: Upper bounds of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    tags: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The names that Prometheus sees."""
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        return tuple(f"ray_{self.name}{suffix}" for suffix in suffixes[self.kind])


def _counter(name: str, text: str, *tags: str) -> Metric:
    return Metric(name=f"retrieveall_{name}", kind="counter", text=text, tags=tags)


def _gauge(name: str, text: str, *tags: str) -> Metric:
    return Metric(name=f"retrieveall_{name}", kind="gauge", text=text, tags=tags)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *tags: str) -> Metric:
    return Metric(name=f"retrieveall_{name}", kind="histogram", text=text, tags=tags, buckets=buckets)


REQUESTS = _counter("requests", "HTTP requests that were answered.", "path", "status")
PROBLEMS = _counter("problems", "Answers that were an error, by its code.", "code")
REQUEST_SECONDS = _histogram("request_seconds", "Time of an HTTP request.", _SECONDS, "path")
STAGE_SECONDS = _histogram(
    "stage_seconds",
    "Time of one stage of a request: sentences, route, retrieve, generate, answer.",
    _SECONDS,
    "stage",
)
IN_FLIGHT = _gauge("in_flight", "Requests that an ingress replica is answering.")
TEXTS = _counter("texts", "Texts that were tagged.")
SENTENCES = _counter("sentences", "Sentences that were tagged.", "language", "composition")
ENTITIES = _counter("entities", "Entities that were found, before filters.", "language", "label")
PROMPT_TOKENS = _counter("prompt_tokens", "Tokens of prompts.", "language")
NEW_TOKENS = _counter("new_tokens", "Tokens that were chosen.", "language")
ROUTE_MARGIN = _histogram(
    "route_margin", "Score of the best language minus the second best.", _SHARES, "language"
)
RETRIEVAL_HITS = _counter("retrieval_hits", "Sentences with at least one example.", "language")
TAUGHT_HITS = _counter("taught_hits", "Sentences with at least one taught example.", "language")
EXAMPLES = _counter("retrieved_examples", "Examples that were retrieved.", "language", "granularity")
EXAMPLES_DROPPED = _counter("dropped_examples", "Examples that did not fit into the prompt.", "language")
RELEASE = _gauge("release", "Number of the release that the ingress stamps on requests.")
RELEASE_PROBLEM = _gauge("release_problem", "1 while the newest release or a part of it cannot be served.")
RELEASE_HELD = _gauge("release_held", "Number of the newest release that a replica has open.")
ENGINE_ROWS = _counter("engine_rows", "Rows that left the engine.", "outcome")
ENGINE_WAITING = _gauge("engine_rows_waiting", "Rows that wait for the engine.")
ENGINE_BATCHES = _counter("engine_batches", "Joinings of rows into the running batch.")
ENGINE_PASSES = _counter("engine_forward_passes", "Forward passes of the model.")
ENGINE_TOKENS = _counter(
    "engine_chosen_tokens", "Tokens that the engine chose; less the accepted ones, rows times passes."
)
ENGINE_DRAFTED = _counter("engine_drafted_tokens", "Tokens that were tried before they were chosen.")
ENGINE_ACCEPTED = _counter("engine_accepted_tokens", "Drafted tokens that were then chosen.")
ADAPTERS = _gauge("adapters_resident", "Adapters of a language in the engine's memory.", "language")

CATALOGUE = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class Recorder(Protocol):
    """Where measurements go; thread-safe."""

    def record(self, metric: Metric, value: float, **tags: str) -> None:
        """Adds to a counter, sets a gauge, or observes a value."""
        ...


class NoRecorder:
    """Forgets everything."""

    def record(self, metric: Metric, value: float, **tags: str) -> None:
        """Does nothing."""


@contextmanager
def timed(recorder: Recorder, metric: Metric, **tags: str) -> Iterator[None]:
    """Observes the seconds of a block, also where it fails."""
    started_s = time.perf_counter()
    try:
        yield
    finally:
        recorder.record(metric, time.perf_counter() - started_s, **tags)
