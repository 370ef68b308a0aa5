"""From answers and engine counters to metrics. No Ray in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from retrieveall.engine.protocol import EngineStats
from retrieveall.generation import Generated
from retrieveall.tagger import Composed
from retrieveall.types import Examples, Route
from serve_apps import metrics
from serve_apps.metrics import Metric, Recorder


def record_sentences(
    recorder: Recorder,
    routes: Sequence[Route],
    composed: Sequence[Composed],
    examples: Sequence[Examples],
    answers: Sequence[Generated],
) -> None:
    """Records what was done with S sentences; each argument has S items, in the same order."""
    counts: Counter[tuple[Metric, tuple[tuple[str, str], ...]]] = Counter()

    def count(metric: Metric, value: int = 1, **tags: str) -> None:
        counts[metric, tuple(tags.items())] += value

    for route, one, found, answer in zip(routes, composed, examples, answers, strict=True):
        code = route.language
        recorder.record(metrics.ROUTE_MARGIN, route.margin, language=code)
        count(metrics.SENTENCES, language=code, composition=one.composition)
        count(metrics.PROMPT_TOKENS, answer.prompt_tokens, language=code)
        count(metrics.NEW_TOKENS, answer.new_tokens, language=code)
        count(metrics.EXAMPLES, len(found.entity), language=code, granularity="entity")
        count(metrics.EXAMPLES, len(found.context), language=code, granularity="context")
        count(metrics.EXAMPLES_DROPPED, answer.examples_dropped, language=code)
        count(metrics.RETRIEVAL_HITS, int(bool(found.entity or found.context)), language=code)
        taught = any(e.taught for e in found.entity) or any(e.taught for e in found.context)
        count(metrics.TAUGHT_HITS, int(taught), language=code)
        for entity in answer.entities:
            count(metrics.ENTITIES, language=code, label=entity.label)
    for (metric, tags), value in counts.items():
        recorder.record(metric, value, **dict(tags))


class EngineMeter:
    """Records an engine's counters as they grow.

    Args:
        stats: Returns the counters.
        languages: Returns the language of each adapter that the held releases name.
        recorder: Where they go.
    """

    def __init__(
        self,
        stats: Callable[[], EngineStats],
        languages: Callable[[], Mapping[str, str]],
        recorder: Recorder,
    ) -> None:
        self._stats, self._languages, self._recorder = stats, languages, recorder
        self._last: Mapping[str, int] = {}
        self._seen: set[str] = set()

    def measure(self) -> None:
        """Records what has grown since the last time, and what is held now."""
        stats = self._stats()
        now: dict[str, int] = {name: value for name, value in asdict(stats).items() if isinstance(value, int)}
        for name, metric, tags in _GROWING:
            self._recorder.record(metric, now[name] - self._last.get(name, 0), **tags)
        self._last = now
        self._recorder.record(metrics.ENGINE_WAITING, stats.rows_waiting)
        self._measure_adapters(stats.adapters)

    def _measure_adapters(self, adapters: Sequence[str]) -> None:
        languages = self._languages()
        resident = Counter(languages.get(digest, "other") for digest in adapters)
        self._seen |= set(languages.values()) | set(resident)
        for language in self._seen:
            self._recorder.record(metrics.ADAPTERS, resident[language], language=language)


_GROWING: tuple[tuple[str, Metric, dict[str, str]], ...] = (
    ("rows_done", metrics.ENGINE_ROWS, {"outcome": "done"}),
    ("rows_failed", metrics.ENGINE_ROWS, {"outcome": "failed"}),
    ("batches", metrics.ENGINE_BATCHES, {}),
    ("forward_passes", metrics.ENGINE_PASSES, {}),
    ("new_tokens", metrics.ENGINE_TOKENS, {}),
    ("drafted_tokens", metrics.ENGINE_DRAFTED, {}),
    ("accepted_tokens", metrics.ENGINE_ACCEPTED, {}),
)
