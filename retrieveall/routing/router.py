"""From language scores to routes: ranking, margin, what is unknown, and the help of the document.

Axes: N sentences, L languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from retrieveall.embedding.protocol import Vectors
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.routing.centroid import DEFAULT_SAMPLES, CentroidScorer
from retrieveall.routing.langid import LangidScorer
from retrieveall.routing.learning import learn_from_indexes
from retrieveall.routing.linear import LinearScorer, LinearWeights
from retrieveall.routing.scorer import Floats, LanguageScorer
from retrieveall.routing.vote import DEFAULT_K, VoteScorer
from retrieveall.text.units import split_units
from retrieveall.types import Route, Shares

RouterName = Literal["linear", "vote", "centroid", "langid"]
ROUTERS: tuple[RouterName, ...] = ("linear", "vote", "centroid", "langid")
LEAST_SHARE = 0.05  # of the likely languages of a sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteSettings:
    """Thresholds and weights, fitted on dev (fit.py) and kept by `retrieveall.route_settings`.

    Attributes:
        min_similarity: Below it a sentence is unknown.
        min_margin: Below it a sentence is unknown.
        document_weight: How much the document's mean scores count for a short sentence.
        short_units: Sentences of at most so many units are short.
    """

    min_similarity: float = 0.0
    min_margin: float = 0.0
    document_weight: float = 1.0
    short_units: int = 5

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RouteSettings:
        """Reads settings from JSON."""
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """Routes of N sentences, and their vectors to hand on to retrieval (None where there are none)."""

    routes: tuple[Route, ...]
    embeddings: Vectors | None


class ScoringRouter:
    """The one router: any scorer, then thresholds and documents.

    A short sentence adds the document's mean scores, a sentence without letters takes the
    document's route. Thread-safe. Source: own choice.

    Args:
        scorer: The back-end.
        settings: Thresholds and weights.
    """

    def __init__(self, scorer: LanguageScorer, settings: RouteSettings | None = None) -> None:
        self.scorer = scorer
        self.settings = settings or RouteSettings()

    @property
    def languages(self) -> tuple[str, ...]:
        """The pool's languages, sorted."""
        return self.scorer.languages

    def route(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,
        embeddings: Vectors | None = None,
    ) -> Routed:
        """Routes N sentences.

        Args:
            texts: N sentences.
            documents: For each the number of its document; None takes each for itself.
            embeddings: Their vectors ``(N, D)`` where the caller has them.
        """
        if not texts:
            return Routed(routes=(), embeddings=embeddings)
        scores = self.scorer.score(texts, embeddings=embeddings)
        lettered = np.array([has_letters(text) for text in texts])
        values, similarity = scores.values, np.where(lettered, scores.similarity, 0.0)
        if documents is not None:
            values, similarity = self._with_documents(
                texts, np.asarray(documents), values, similarity, lettered
            )
        routes = tuple(self._route(v, s) for v, s in zip(values, similarity.tolist(), strict=True))
        return Routed(routes=routes, embeddings=scores.embeddings)

    def _with_documents(
        self,
        texts: Sequence[str],
        documents: np.ndarray[Any, np.dtype[np.int64]],
        values: Floats,
        similarity: Floats,
        lettered: np.ndarray[Any, np.dtype[np.bool_]],
    ) -> tuple[Floats, Floats]:
        short = np.array([len(split_units(text)) <= self.settings.short_units for text in texts])
        mixed, near = values.copy(), similarity.copy()
        for document in np.unique(documents):
            members = documents == document
            good = members & lettered
            if good.any():
                mean = values[good].mean(axis=0)
                helped = good & short
                weight = self.settings.document_weight
                mixed[helped] = (values[helped] + weight * mean) / (1 + weight)
                mixed[members & ~lettered] = mean
                near[members & ~lettered] = similarity[good].mean()
        return mixed, near

    def _route(self, values: Floats, similarity: float) -> Route:
        order = np.argsort(-values, kind="stable").tolist()
        ranking = tuple((self.languages[i], float(values[i])) for i in order)
        margin = ranking[0][1] - (ranking[1][1] if len(ranking) > 1 else 0.0)
        known = similarity >= self.settings.min_similarity and margin >= self.settings.min_margin
        return Route(
            language=ranking[0][0],
            ranking=ranking,
            margin=margin,
            known=known and similarity > 0,
            shares=likely_shares(ranking) if self.scorer.gives_shares else (),
        )


def likely_shares(ranking: Shares) -> Shares:
    """Returns the likely languages of a ranking, summing to 1; none where all scores are 0."""
    least = LEAST_SHARE * sum(score for _, score in ranking)
    likely = [(language, score) for language, score in ranking if score > least]
    total = sum(score for _, score in likely)
    return tuple((language, score / total) for language, score in likely)


def has_letters(text: str) -> bool:
    """Tells whether a text holds any letter."""
    return any(map(str.isalpha, text))


def open_router(
    name: RouterName,
    indexes: Mapping[str, LanguageIndex],
    *,
    languages: Sequence[str] = (),
    settings: RouteSettings | None = None,
    samples: int | None = DEFAULT_SAMPLES,
    neighbours: int = DEFAULT_K,
    weights: LinearWeights | None = None,
) -> ScoringRouter:
    """Builds a router; where a language has no index every name falls back to `langid`.

    Args:
        name: The back-end.
        indexes: Opened indexes by language.
        languages: The pool's languages; default those of the indexes.
        settings: Thresholds and weights, fitted for this back-end.
        samples: m of ``centroid``; None takes all sentences.
        neighbours: k of ``vote``.
        weights: What ``linear`` has learned from these indexes; None learns it now.

    Raises:
        NotFoundError: There is neither an index nor a language.
    """
    complete = bool(indexes) and set(languages) <= set(indexes)
    if name == "linear" and complete:
        return ScoringRouter(LinearScorer(weights or learn_from_indexes(indexes)), settings)
    if name == "vote" and complete:
        return ScoringRouter(VoteScorer(indexes, k=neighbours), settings)
    if name == "centroid" and complete:
        return ScoringRouter(CentroidScorer.from_indexes(indexes, samples=samples), settings)
    fallback = name != "langid"
    return ScoringRouter(LangidScorer(languages or tuple(indexes)), None if fallback else settings)
