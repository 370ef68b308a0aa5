"""From the candidate spans of a sentence to ranked entity rows.

Every short run of units is looked up by its folded surface, which costs a microsecond a run; a few
name-like runs that the look-up did not find go to the vector search. What helps a tagger is shown
first: exact matches before fuzzy ones, longer before shorter; a match inside a longer match is left
out, and so is a surface that is hardly ever a name in the training sentences. A surface that carries
several labels shows each that has a fair share, side by side. Source: own choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from retrieveall.retrieval.candidates import candidate_spans, name_runs
from retrieveall.retrieval.keys import Keys, fold_space, surface_keys
from retrieveall.retrieval.neighbourhood import N_MAX, Ranked, ranked
from retrieveall.retrieval.rows import EntityRows, Rows
from retrieveall.text.units import split_units
from retrieveall.types import Span

SPAN_POOL = 8
"""Rows taken from the vector search for each span."""

MAX_QUERIES = 8
"""Spans of one sentence that go to the vector search."""

_OTHER_CASE = 0.95  # similarity of a surface that differs only in case, white space or compatibility forms
_MIN_RATE = 0.1  # tagged in fewer of the sentences it occurs in: not shown
_MIN_SHARE = 0.2  # of a surface's tagged occurrences: rarer labels are not shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A row that was found for a span.

    Attributes:
        frequency: Occurrences of the row outside the excluded sentences.
        surface_frequency: The same over all rows found for the span.
        source: The first sentence, not excluded, that the row stands in.
    """

    row: int
    similarity: float
    span: Span
    frequency: int
    surface_frequency: int
    source: int


Hits: TypeAlias = tuple[Hit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surfaces:
    """The short runs of a sentence with their keys: the same for every index that is searched.

    Attributes:
        spans: S runs.
        keys: The key of each run's surface, uint64 ``(S,)``.
    """

    text: str
    units: tuple[Span, ...]
    spans: tuple[Span, ...]
    keys: Keys

    @classmethod
    def of(cls, text: str) -> Surfaces:
        """Cuts a sentence into its short runs."""
        units = split_units(text)
        spans = tuple(candidate_spans(text, units))
        keys = surface_keys(text[span.start_char : span.end_char] for span in spans)
        return cls(text=text, units=units, spans=spans, keys=keys)


def look_up(surfaces: Surfaces, rows: EntityRows, excluded: Rows) -> Hits:
    """Looks all short runs of a sentence up.

    Args:
        surfaces: The sentence.
        rows: Where.
        excluded: Context rows that are left out.
    """
    which, found = rows.with_keys(surfaces.keys)
    by_span: dict[Span, list[tuple[int, Rows]]] = defaultdict(list)
    for place, row in zip(which.tolist(), found.tolist(), strict=True):
        left = _left(rows.sources(row), excluded)
        if len(left):
            by_span[surfaces.spans[place]].append((row, left))
    hits: list[Hit] = []
    for span in outermost(by_span):
        surface = surfaces.text[span.start_char : span.end_char]
        hits += _labels_shown(surface, span, by_span[span], rows, len(excluded))
    return tuple(hits)


def fuzzy_spans(surfaces: Surfaces, exact: Iterable[Hit]) -> list[Span]:
    """Names the runs of a sentence that are worth a vector search beside what the look-up found."""
    taken = {hit.span for hit in exact}
    return name_runs(surfaces.text, surfaces.units, at_most=MAX_QUERIES, taken=taken)


def fuzzy_hits(
    span: Span, found: Rows, similarities: Sequence[float], rows: EntityRows, excluded: Rows, dropped: Rows
) -> Hits:
    """Turns one span's search result into at most ``SPAN_POOL`` hits.

    Args:
        span: What was searched for.
        found: Entity rows, best first, -1 where there are no more.
        similarities: Their cosines.
        rows: The entity rows.
        excluded: Context rows that are left out.
        dropped: Entity rows that stand in no other sentence.
    """
    gone = set(dropped.tolist())
    kept = [(r, s) for r, s in zip(found.tolist(), similarities, strict=True) if r >= 0 and r not in gone]
    hits = []
    for row, similarity in kept[:SPAN_POOL]:
        left = _left(rows.sources(row), excluded)
        hits.append(_hit(row, min(similarity, _OTHER_CASE), span, len(left), len(left), int(left[0])))
    return tuple(hits)


def rank_hits(hits: Iterable[Hit], rows: EntityRows) -> Ranked:
    """Orders hits by similarity, span length, frequency; each (mention, label) stands once."""
    best: dict[tuple[str, str], Hit] = {}
    for hit in sorted(hits, key=strength):
        best.setdefault((fold_space(rows.mention(hit.row)), rows.label(hit.row)), hit)
    kept = list(best.values())
    similarities = np.array([hit.similarity for hit in kept], np.float32)
    return ranked(
        np.array([hit.row for hit in kept], np.int64),
        similarities,
        np.array([hit.source for hit in kept], np.int64),
        candidates=similarities,
        at_most=N_MAX,
    )


def strength(hit: Hit) -> tuple[float, int, int, int, int, int]:
    """Returns what hits are ordered by, strongest first."""
    length = hit.span.end_char - hit.span.start_char
    return -hit.similarity, -length, -hit.surface_frequency, hit.span.start_char, -hit.frequency, hit.row


def outermost(spans: Iterable[Span]) -> list[Span]:
    """Leaves out spans that lie inside a longer one; input and output in order of appearance."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start_char, -s.end_char)):
        if not kept or span.end_char > kept[-1].end_char:
            kept.append(span)
    return kept


def _labels_shown(
    surface: str, span: Span, found: Sequence[tuple[int, Rows]], rows: EntityRows, excluded: int
) -> list[Hit]:
    """The hits of one span: none when the surface is hardly ever a name, no label with a small share."""
    total = sum(len(left) for _, left in found)
    tagged = len(set().union(*(left.tolist() for _, left in found)))
    occurring = max(int(rows.sentences[found[0][0]]) - excluded, tagged)
    if tagged < _MIN_RATE * occurring:
        return []
    by_label: dict[str, int] = defaultdict(int)
    for row, left in found:
        by_label[rows.label(row)] += len(left)
    return [
        _hit(row, _likeness(surface, rows.mention(row)), span, len(left), total, int(left[0]))
        for row, left in found
        if by_label[rows.label(row)] >= _MIN_SHARE * total
    ]


def _likeness(surface: str, mention: str) -> float:
    return 1.0 if fold_space(surface) == fold_space(mention) else _OTHER_CASE


def _left(sources: Rows, excluded: Rows) -> Rows:
    """The sources that are not excluded."""
    if not len(excluded):
        return sources
    # nearly always one sentence is excluded, and `isin` takes many times as long
    gone = sources == excluded[0] if len(excluded) == 1 else np.isin(sources, excluded)
    return sources[~gone]


def _hit(row: int, similarity: float, span: Span, frequency: int, surface_frequency: int, source: int) -> Hit:
    return Hit(
        row=row,
        similarity=similarity,
        span=span,
        frequency=frequency,
        surface_frequency=surface_frequency,
        source=source,
    )
