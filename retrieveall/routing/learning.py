"""Learning of the `linear` router's weights: softmax regression by AdaGrad, one step size for each row.

The sentences are passed over three times in an order drawn from a fixed seed, and nothing else is random:
the same sentences give the same weights. Every language counts alike, however few its sentences are: with
300 sentences of one beside 6,000 of each of five others, that is worth three points (PAN-X). Source: own
choice. It must hold for one language and for 1,000, so there are limits, with L languages:

- at most 20,000 sentences a language, 500,000 in all, 2^28 / L² a language: all of them up to 25 languages,
  268 of each of 1,000; their first 128 characters. The hashes of all are held at once, 0.3 GB of short
  sentences such as PAN-X's, 1.3 GB at most;
- R ≤ 2^20 rows with R·L ≤ 2^26: at most 268 MB of float32 (25 MB for six languages), half of it on disk;
- S ≤ 2^22 bits a language for the n-grams seen, S·L ≤ 2^30: at most 134 MB (3 MB for six languages).

A step adds to the rows of 256 sentences; beside the above it holds some copies of these rows.
Axes: N sentences, B of one step, G n-grams, R rows, U rows of one step, L languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.corpus.limits import limited
from retrieveall.embedding.hashing import text_batches
from retrieveall.errors import NotFoundError
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.routing.linear import Counts, LinearWeights, ngrams_of, scale, slots_of, summed

MOST_OF_A_LANGUAGE = 20_000
MOST_SENTENCES = 500_000
MOST_SCORES = 1 << 28  # of all sentences in all languages: what a pass over them costs
MOST_CHARACTERS = 128
MOST_WEIGHTS, MOST_ROWS = 1 << 26, 1 << 20
MOST_BITS, MOST_SLOTS = 1 << 30, 1 << 22
EPOCHS = 3
STEP_SENTENCES = 256
STEP_SIZE = 0.3
_SEED = 13
_TINY = 1e-8


def learn_from_indexes(indexes: Mapping[str, LanguageIndex]) -> LinearWeights:
    """Learns from the training sentences that the indexes of the pool's languages hold.

    Raises:
        NotFoundError: There is no index.
    """
    if not indexes:
        raise NotFoundError("Linear routing needs at least one index. Build one: retrieveall index.")
    most = sentences_of_each(len(indexes))
    return learn(
        {
            code: [index.contexts.text(row) for row in limited(len(index.contexts), most)]
            for code, index in indexes.items()
        }
    )


def sentences_of_each(languages: int) -> int:
    """Returns how many sentences of each of L languages are learned from at most."""
    return max(1, min(MOST_OF_A_LANGUAGE, MOST_SENTENCES // languages, MOST_SCORES // languages**2))


def table_size(languages: int) -> tuple[int, int]:
    """Returns R and S for L languages, powers of two."""
    rows, slots = min(MOST_ROWS, MOST_WEIGHTS // languages), min(MOST_SLOTS, MOST_BITS // languages)
    return 1 << (rows.bit_length() - 1), 1 << (slots.bit_length() - 1)


def learn(texts: Mapping[str, Sequence[str]]) -> LinearWeights:
    """Learns to tell languages apart.

    Args:
        texts: Training sentences by language, L languages.
    """
    languages = tuple(sorted(texts))
    rows, slots = table_size(len(languages))
    seen = np.zeros((len(languages), slots // 8), np.uint8)
    found: list[tuple[NDArray[np.int32], Counts]] = []
    for number, code in enumerate(languages):
        found += _read(texts[code], rows, seen[number])
    features = np.concatenate([some for some, _ in found] or [np.empty(0, np.int32)])
    counts = np.concatenate([count for _, count in found] or [np.empty(0, np.int64)])
    labels = np.repeat(np.arange(len(languages)), [len(texts[code]) for code in languages])
    learned = _Regression(torch.from_numpy(features), counts, torch.from_numpy(labels), rows, len(languages))
    return LinearWeights(languages=languages, rows_RL=learned.run().half().float(), seen=seen)


def _read(texts: Sequence[str], rows: int, seen: NDArray[np.uint8]) -> list[tuple[NDArray[np.int32], Counts]]:
    """Returns rows and counts of the n-grams of one language's sentences, and marks them as seen."""
    texts = [text[:MOST_CHARACTERS] for text in texts]
    found = []
    for first, last in text_batches(texts):
        hashes, counts = ngrams_of(texts[first:last])
        slot = slots_of(hashes, 8 * len(seen))
        np.bitwise_or.at(seen, slot >> 3, np.left_shift(1, slot & 7).astype(np.uint8))
        found.append(((hashes % np.uint64(rows)).astype(np.int32), counts))
    return found


class _Regression:
    """Softmax regression of N sentences' languages on the rows of their n-grams.

    Args:
        features: Rows, sentence by sentence ``(G,)``.
        counts: How many each sentence has ``(N,)``.
        labels: Language of each ``(N,)``.
        rows: R.
        languages: L.
    """

    def __init__(
        self, features: torch.Tensor, counts: Counts, labels: torch.Tensor, rows: int, languages: int
    ) -> None:
        self._features, self._counts, self._labels = features, counts, labels
        self._starts = np.cumsum(counts) - counts
        of_language = torch.bincount(labels, minlength=languages).clamp(min=1)
        self._worth = (len(labels) / (languages * of_language))[labels].unsqueeze(1)  # (N, 1)
        self._weights = torch.zeros(rows, languages)
        self._squares = torch.zeros(rows, 1)  # AdaGrad's sums

    def run(self) -> torch.Tensor:
        """Returns the weights ``(R, L)``."""
        total = len(self._counts) * EPOCHS
        generator = np.random.default_rng(_SEED)
        for epoch in range(EPOCHS):
            order = generator.permutation(len(self._counts))
            for first in range(0, len(order), STEP_SENTENCES):
                done = (epoch * len(order) + first) / total
                self._step(order[first : first + STEP_SENTENCES], STEP_SIZE * (1.0 - done))
        return self._weights

    def _step(self, sentences: NDArray[np.int64], size: float) -> None:
        """Descends along the summed gradient of a step's sentences."""
        counts = self._counts[sentences]
        features = self._features[_ranges(self._starts[sentences], counts)]
        divisor = scale(counts)
        shares = torch.softmax(summed(self._weights, features, torch.from_numpy(counts)) / divisor, dim=1)
        shares[torch.arange(len(sentences)), self._labels[sentences]] -= 1.0
        gradient_BL = shares * self._worth[sentences] / divisor
        sentence_of = torch.from_numpy(np.repeat(np.arange(len(sentences), dtype=np.int32), counts))
        ordered, by_row = torch.sort(features, stable=True)
        rows, times = torch.unique_consecutive(ordered, return_counts=True)
        gradient_UL = summed(gradient_BL, sentence_of[by_row], times)
        rows = rows.long()
        squares = self._squares[rows] + gradient_UL.square().mean(dim=1, keepdim=True)
        self._squares[rows] = squares
        self._weights[rows] -= size * gradient_UL / (squares.sqrt() + _TINY)


def _ranges(starts: NDArray[np.int64], counts: Counts) -> torch.Tensor:
    """Returns the places starts[0], starts[0] + 1 … of all ranges, one after the other."""
    shifts = starts - (np.cumsum(counts) - counts)
    return torch.from_numpy(np.repeat(shifts, counts) + np.arange(counts.sum()))
