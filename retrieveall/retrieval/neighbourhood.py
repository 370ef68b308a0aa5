"""What a search found for one sentence, and how it becomes the examples of a prompt.

A `Ranked` list does not depend on n, m or λ, so the one computed once for every training sentence
serves all of them; `select` is the only way from a list to `Examples`, in training and in tagging.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieveall.errors import ConfigError
from retrieveall.retrieval.rows import ContextRows, EntityRows
from retrieveall.types import ContextExample, EntityExample, Examples

N_MAX = 16
M_MAX = 8
DEFAULT_N = 8
DEFAULT_M = 1
DEFAULT_LAMBDA = 1.0
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """R rows, strongest first, with the statistics of all candidates they were chosen from.

    Attributes:
        rows: Row of the index of each, int64 ``(R,)``.
        similarities: Cosine of each, float32 ``(R,)``.
        sources: Context row of the sentence each was taken from, int64 ``(R,)``.
        mean: Mean cosine over the query's candidates; 0 without candidates.
        std: Standard deviation over the query's candidates.
        best: Highest cosine of the candidates.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]
    sources: NDArray[np.int64]
    mean: float
    std: float
    best: float

    def survivors(self, threshold_lambda: float) -> NDArray[np.bool_]:
        """Tells for each row whether it passes τ(x) = min(mean + λ·std, best cosine).

        The paper asks for a dynamic threshold; the formula is our own choice. Without the second
        bound, a sentence whose candidates are nearly all exact would keep none.
        """
        threshold = min(self.mean + threshold_lambda * self.std, self.best)
        return self.similarities >= threshold - _ROUNDING


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbourhood:
    """The at most ``M_MAX`` context rows and ``N_MAX`` entity rows found for one sentence."""

    context: Ranked
    entity: Ranked


def ranked(
    rows: NDArray[np.int64],
    similarities: NDArray[np.float32],
    sources: NDArray[np.int64],
    *,
    candidates: NDArray[np.float32],
    at_most: int,
) -> Ranked:
    """Cuts a list that is already in order, with the statistics of all its candidates."""
    some = len(candidates) > 0
    wide = candidates.astype(np.float64)
    return Ranked(
        rows=rows[:at_most].astype(np.int64),
        similarities=similarities[:at_most].astype(np.float32),
        sources=sources[:at_most].astype(np.int64),
        mean=float(np.float32(wide.mean())) if some else 0.0,
        std=float(np.float32(wide.std())) if some else 0.0,
        best=float(candidates.max()) if some else 0.0,
    )


def select(
    found: Neighbourhood,
    contexts: ContextRows,
    entities: EntityRows,
    *,
    n: int = DEFAULT_N,
    m: int = DEFAULT_M,
    threshold_lambda: float = DEFAULT_LAMBDA,
) -> Examples:
    """Applies the dynamic threshold, keeps the n and m strongest, and reads their rows.

    Raises:
        ConfigError: n or m is negative or larger than what is stored.
    """
    check_sizes(n, m)
    entity_places = np.flatnonzero(found.entity.survivors(threshold_lambda))[:n].tolist()
    context_places = np.flatnonzero(found.context.survivors(threshold_lambda))[:m].tolist()
    return Examples(
        entity=tuple(_entity_example(found.entity, place, contexts, entities) for place in entity_places),
        context=tuple(_context_example(found.context, place, contexts) for place in context_places),
    )


def check_sizes(n: int, m: int) -> None:
    """Checks how many examples are asked for.

    Raises:
        ConfigError: n or m is negative or larger than what is stored.
    """
    if not 0 <= n <= N_MAX or not 0 <= m <= M_MAX:
        raise ConfigError(
            f"{n} entity and {m} context examples were asked for; an index keeps {N_MAX} and {M_MAX} at"
            " most. Ask for fewer."
        )


def _context_example(found: Ranked, place: int, contexts: ContextRows) -> ContextExample:
    return contexts.example(int(found.rows[place]), float(found.similarities[place]))


def _entity_example(found: Ranked, place: int, contexts: ContextRows, entities: EntityRows) -> EntityExample:
    row = int(found.rows[place])
    return EntityExample(
        mention=entities.mention(row),
        label=entities.label(row),
        similarity=float(found.similarities[place]),
        sentence_id=contexts.sentence_id(int(found.sources[place])),
    )
