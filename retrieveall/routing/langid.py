"""`langid`: lingua, restricted to the pool's languages: the rival, and the fallback without an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import MissingDependencyError, NotFoundError
from retrieveall.routing.scorer import LanguageScores

_WRITTEN_NORWEGIAN = {"no": "nb"}


class LangidScorer:
    """lingua's confidence for each language of the pool.

    Args:
        languages: Codes of the pool; those that lingua does not know always score 0.

    Raises:
        MissingDependencyError: lingua is not installed.
        NotFoundError: There is no language.
    """

    name = "langid"
    gives_shares = True

    def __init__(self, languages: Sequence[str]) -> None:
        if not languages:
            raise NotFoundError(
                "Language identification needs the codes of the pool's languages; none was given."
            )
        self.languages = tuple(sorted(languages))
        known = _lingua_languages()
        self._columns: dict[Any, list[int]] = {}
        for column, code in enumerate(self.languages):
            language = known.get(_base_code(code))
            if language is not None:
                self._columns.setdefault(language, []).append(column)
        self._detector = _detector(list(self._columns))

    def score(self, texts: Sequence[str], *, embeddings: Vectors | None = None) -> LanguageScores:
        """Returns lingua's confidences, and the best as similarity; vectors are handed on unused."""
        values = np.zeros((len(texts), len(self.languages)))
        for row, text in enumerate(texts):
            for language, confidence in self._confidences(text):
                columns = self._columns[language]
                values[row, columns] = confidence / len(columns)
        return LanguageScores(values=values, similarity=values.max(axis=1), embeddings=embeddings)

    def _confidences(self, text: str) -> list[tuple[Any, float]]:
        if self._detector is None:
            return [(language, 1.0) for language in self._columns]
        text = text.encode("utf-8", "replace").decode("utf-8")  # lingua takes no lone surrogates
        return [(c.language, c.value) for c in self._detector.compute_language_confidence_values(text)]


def _base_code(code: str) -> str:
    base = code.split("-")[0]
    return _WRITTEN_NORWEGIAN.get(base, base)


def _lingua_languages() -> dict[str, Any]:
    try:
        from lingua import Language
    except ImportError:
        raise MissingDependencyError(
            "Routing by langid needs lingua. Run: pip install lingua-language-detector"
        ) from None
    return {language.iso_code_639_1.name.lower(): language for language in Language.all()}


def _detector(languages: list[Any]) -> Any:
    """Lingua needs at least two languages to choose from."""
    if len(languages) < 2:
        return None
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_languages(*languages).build()
