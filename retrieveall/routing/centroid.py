"""`centroid`: the language whose mean sample vector is nearest (LoraRetriever, section 3).

E(φ) is the mean of m sample embeddings, m = 20 by default; the score is the cosine with E(x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from retrieveall.embedding.protocol import Embedder, Vectors, unit_rows
from retrieveall.errors import NotFoundError
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.routing.scorer import LanguageScores

DEFAULT_SAMPLES = 20


class CentroidScorer:
    """One vector per language.

    Args:
        centroids: Unit vector ``(D,)`` by language.
        embedder: What the vectors were made with.

    Raises:
        NotFoundError: There is no centroid.
    """

    name = "centroid"
    gives_shares = False

    def __init__(self, centroids: Mapping[str, Vectors], embedder: Embedder) -> None:
        if not centroids:
            raise NotFoundError("Centroid routing needs at least one language. Build one: retrieveall index.")
        self.languages = tuple(sorted(centroids))
        self._centroids = np.stack([centroids[language] for language in self.languages])  # (L, D)
        self._embedder = embedder

    @classmethod
    def from_indexes(
        cls, indexes: Mapping[str, LanguageIndex], *, samples: int | None = DEFAULT_SAMPLES
    ) -> CentroidScorer:
        """Takes samples spread evenly over each language's training sentences.

        Args:
            indexes: Opened indexes by language, all of one embedder.
            samples: m; None takes all sentences.

        Raises:
            NotFoundError: There is no index.
        """
        if not indexes:
            raise NotFoundError("Centroid routing needs at least one index. Build one: retrieveall index.")
        embedder = next(iter(indexes.values())).embedder
        return cls({code: _centroid(index, samples) for code, index in indexes.items()}, embedder)

    def score(self, texts: Sequence[str], *, embeddings: Vectors | None = None) -> LanguageScores:
        """Returns each language's cosine, and the best of them as similarity."""
        vectors = self._embedder.embed_texts(texts) if embeddings is None else embeddings
        values = (vectors @ self._centroids.T).astype(np.float64)
        return LanguageScores(values=values, similarity=values.max(axis=1), embeddings=vectors)


def _centroid(index: LanguageIndex, samples: int | None) -> Vectors:
    count = len(index.contexts) if samples is None else min(samples, len(index.contexts))
    rows = np.linspace(0, len(index.contexts) - 1, count).round().astype(int).tolist()
    mean = index.embedder.embed_texts([index.contexts.text(row) for row in rows]).mean(axis=0, keepdims=True)
    centroid: Vectors = unit_rows(mean.astype(np.float32))[0]
    return centroid
