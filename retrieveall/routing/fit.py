"""Fitting a router's settings on the dev split. Source: own choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from retrieveall.errors import InputError
from retrieveall.routing.router import RouteSettings, ScoringRouter

UNKNOWN_RATE = 0.01
DOCUMENT_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


def fit_thresholds(
    router: ScoringRouter, texts: Sequence[str], *, unknown_rate: float = UNKNOWN_RATE
) -> RouteSettings:
    """Sets similarity and margin so that at most a share of the pool's own sentences is unknown.

    Half of the share is given to each threshold.

    Args:
        router: Its other settings are kept.
        texts: Dev sentences of the pool's languages.
        unknown_rate: The share.

    Raises:
        InputError: There is no text with letters.
    """
    scored = router.scorer.score([text for text in texts if any(map(str.isalpha, text))])
    if not len(scored.similarity):
        raise InputError("No dev sentence with letters was given; thresholds cannot be fitted without any.")
    best = np.sort(scored.values, axis=1)
    margins = best[:, -1] - (best[:, -2] if best.shape[1] > 1 else 0.0)
    return replace(
        router.settings,
        min_similarity=_quantile(scored.similarity, unknown_rate / 2),
        min_margin=_quantile(margins, unknown_rate / 2),
    )


def fit_document_weight(
    router: ScoringRouter,
    texts: Mapping[str, Sequence[str]],
    *,
    sentences_per_document: int = 5,
    weights: Sequence[float] = DOCUMENT_WEIGHTS,
) -> RouteSettings:
    """Chooses the weight that routes best on made documents, in which every fifth one mixes languages.

    Args:
        router: Its other settings are kept.
        texts: Dev sentences by language.
        sentences_per_document: Size of a made document.
        weights: What is tried; ties go to the smallest.
    """
    rows = _documents(texts, sentences_per_document)
    sentences = [text for _, _, text in rows]
    embeddings = router.scorer.score(sentences).embeddings
    best = (-1.0, 0.0)
    for weight in sorted(weights):
        tried = ScoringRouter(router.scorer, replace(router.settings, document_weight=weight))
        routes = tried.route(sentences, documents=[d for d, _, _ in rows], embeddings=embeddings).routes
        right = float(np.mean([r.language == code for r, (_, code, _) in zip(routes, rows, strict=True)]))
        best = max(best, (right, -weight))
    return replace(router.settings, document_weight=-best[1])


def _quantile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], share: float) -> float:
    """The largest threshold below which at most ``share`` of the values fall."""
    ordered = np.sort(values)
    return float(ordered[int(len(ordered) * share)])


def _documents(texts: Mapping[str, Sequence[str]], size: int) -> list[tuple[int, str, str]]:
    """(document, language, text) of documents of one language; one in five has a guest from the next."""
    codes = sorted(texts)
    rows: list[tuple[int, str, str]] = []
    document = 0
    for place, code in enumerate(codes):
        guests = texts[codes[(place + 1) % len(codes)]]
        for first in range(0, len(texts[code]) - size + 1, size):
            rows += [(document, code, text) for text in texts[code][first : first + size]]
            if document % 5 == 0 and first < len(guests):
                rows[-1] = (document, codes[(place + 1) % len(codes)], guests[first])
            document += 1
    return rows
