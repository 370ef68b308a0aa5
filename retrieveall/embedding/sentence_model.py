"""Any sentence-transformers model as an embedder; the package is optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrieveall.digests import digest_json
from retrieveall.embedding.protocol import Vectors, unit_rows
from retrieveall.errors import MissingDependencyError
from retrieveall.types import Span

FORMAT_VERSION = 1


class SentenceTransformerEmbedder:
    """Sentence vectors of a sentence-transformers model; a mention is embedded by its surface.

    Args:
        model: A Hugging Face id or a local folder.
        batch_size: Texts of one forward pass.
        device: Where the model runs.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
    """

    name = "sentence-transformers"
    contextual = False

    def __init__(self, model: str, *, batch_size: int = 64, device: str = "cpu") -> None:
        self._model = _load(model, device)
        self._batch_size = batch_size
        self.dimensions: int = self._model.get_sentence_embedding_dimension()
        self.digest = digest_json({"name": self.name, "version": FORMAT_VERSION, "model": model})

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embeds N texts. Returns float32 ``(N, D)``, L2-normalised; blank texts are zero."""
        vectors = np.array(
            self._model.encode(
                list(texts), batch_size=self._batch_size, convert_to_numpy=True, show_progress_bar=False
            ),
            dtype=np.float32,
        ).reshape(len(texts), self.dimensions)
        vectors[[not text.strip() for text in texts]] = 0.0
        return unit_rows(vectors)

    def embed_mentions(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> Vectors:
        """Embeds mentions by their surface. Returns float32 ``(M, D)``, L2-normalised."""
        pairs = zip(texts, spans, strict=True)
        return self.embed_texts([t[s.start_char : s.end_char] for t, of_text in pairs for s in of_text])


def _load(model: str, device: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingDependencyError(
            f"The embedder sentence-transformers ({model}) needs a package that is not installed."
            " Run: pip install 'retrieveall[sentence-transformers]'"
        ) from None
    return SentenceTransformer(model, device=device)
