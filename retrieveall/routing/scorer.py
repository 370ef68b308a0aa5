"""What a routing back-end does: score every language of the pool for every sentence.

Axes: N sentences, L languages, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieveall.embedding.protocol import Vectors

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageScores:
    """Scores of N sentences.

    Attributes:
        values: Score of each language ``(N, L)``, comparable within a row only.
        similarity: How near each sentence is to anything in the pool ``(N,)``; its scale is the
            back-end's own.
        embeddings: The sentences' vectors ``(N, D)``, to be handed on; None where the back-end has none.
    """

    values: Floats
    similarity: Floats
    embeddings: Vectors | None


class LanguageScorer(Protocol):
    """A routing back-end; thread-safe.

    Attributes:
        name: ``linear``, ``vote``, ``centroid`` or ``langid``.
        gives_shares: A sentence's scores are probabilities, or shares like them.
        languages: The pool's languages, sorted, L of them.
    """

    name: str
    gives_shares: bool
    languages: tuple[str, ...]

    def score(self, texts: Sequence[str], *, embeddings: Vectors | None = None) -> LanguageScores:
        """Scores N sentences, each for itself.

        Args:
            texts: N sentences.
            embeddings: Their vectors ``(N, D)`` where the caller has them.
        """
        ...
