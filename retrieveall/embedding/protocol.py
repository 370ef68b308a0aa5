"""What retrieval and routing ask of an embedder.

Axes: N texts, M mentions, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieveall.types import Span

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts and mentions into unit vectors, so that an inner product is a cosine.

    A text without anything to embed (empty, white space) is the zero vector: similar to nothing.

    Attributes:
        name: ``ngram``, ``lm`` or ``sentence-transformers``.
        dimensions: D.
        digest: Changes whenever a vector of any text would change.
        contextual: Whether a mention's vector depends on the sentence around it.
    """

    name: str
    dimensions: int
    digest: str
    contextual: bool

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embeds N texts. Returns float32 ``(N, D)``, L2-normalised."""
        ...

    def embed_mentions(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> Vectors:
        """Embeds mentions inside their sentences.

        Args:
            texts: N sentences.
            spans: N sequences of character ranges, M in total.

        Returns:
            float32 ``(M, D)``, L2-normalised, sentence by sentence in the given order.
        """
        ...


def unit_rows(vectors: Vectors) -> Vectors:
    """Divides each row by its length in place; zero rows stay zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    vectors /= np.maximum(lengths, np.float32(1e-12))[:, None]
    return vectors
