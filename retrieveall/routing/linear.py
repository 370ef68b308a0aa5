"""`linear`: softmax regression over hashed character n-grams, learned from the pool's training sentences.

A sentence's n-grams of up to five characters and its whole words, case kept, are hashed into the rows of a
table with one column a language; a language's score is the sum of its column over the sentence's G rows,
divided by √G, and softmax makes shares of the scores. How near a sentence is to the pool is the share of its
n-grams that training sentences of the best language held: a script that the pool does not have has hardly
any. Source: own choice; on short PAN-X sentences five points of accuracy over `vote` (docs/results.md).
Axes: N sentences, G n-grams, R rows, L languages, S slots of seen n-grams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.embedding.hashing import U64, hashed_ngrams, text_batches
from retrieveall.embedding.protocol import Vectors
from retrieveall.hashed_table import Counts, summed
from retrieveall.routing.scorer import Floats, LanguageScores

LENGTHS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearWeights:
    """What was learned (see learning.py).

    Attributes:
        languages: Sorted, L of them.
        rows_RL: Weights, float32.
        seen: For each language which n-grams its training sentences held, a bit for each slot: uint8
            ``(L, S / 8)``.
    """

    languages: tuple[str, ...]
    rows_RL: torch.Tensor
    seen: NDArray[np.uint8]


class LinearScorer:
    """Scores with learned weights.

    Args:
        weights: Over the pool's languages.
    """

    name = "linear"
    gives_shares = True

    def __init__(self, weights: LinearWeights) -> None:
        self.languages = weights.languages
        self._rows, self._seen = weights.rows_RL, weights.seen

    def score(self, texts: Sequence[str], *, embeddings: Vectors | None = None) -> LanguageScores:
        """Returns each language's share, and the share of known n-grams as similarity; vectors pass by."""
        values, similarity = np.zeros((len(texts), len(self.languages))), np.zeros(len(texts))
        for first, last in text_batches(texts):
            hashes, counts = ngrams_of(texts[first:last])
            values[first:last] = torch.softmax(scores(self._rows, hashes, counts).double(), dim=1).numpy()
            similarity[first:last] = self._known(hashes, counts, values[first:last].argmax(axis=1))
        return LanguageScores(values=values, similarity=similarity, embeddings=embeddings)

    def _known(self, hashes: U64, counts: Counts, language: NDArray[np.int64]) -> Floats:
        """The share of each sentence's n-grams that its language has seen ``(N,)``; 0 where it has none."""
        slot = slots_of(hashes, 8 * self._seen.shape[1])
        bits = self._seen[np.repeat(language, counts), slot >> 3] >> (slot & 7).astype(np.uint8) & 1
        sentence = np.repeat(np.arange(len(counts)), counts)
        known = np.bincount(sentence, bits, minlength=len(counts))
        shares: Floats = known / np.maximum(counts, 1)
        return shares


def ngrams_of(texts: Sequence[str]) -> tuple[U64, Counts]:
    """Returns the hashes of N texts' n-grams, text by text ``(G,)``, and how many each has ``(N,)``."""
    hashes, text_of = hashed_ngrams(texts, LENGTHS, keep_case=True)
    return hashes[np.argsort(text_of, kind="stable")], np.bincount(text_of, minlength=len(texts))


def slots_of(hashes: U64, slots: int) -> NDArray[np.int64]:
    """Returns which of the slots each n-gram has; the high bits decide, rows take the low ones."""
    return ((hashes >> np.uint64(32)) % np.uint64(slots)).astype(np.int64)


def scores(rows_RL: torch.Tensor, hashes: U64, counts: Counts) -> torch.Tensor:
    """Returns the languages' scores of N sentences ``(N, L)``."""
    rows = torch.from_numpy((hashes % np.uint64(len(rows_RL))).astype(np.int64))
    return summed(rows_RL, rows, torch.from_numpy(counts)) / scale(counts)


def scale(counts: Counts) -> torch.Tensor:
    """Returns what the sums of N sentences are divided by ``(N, 1)``."""
    return torch.from_numpy(np.sqrt(np.maximum(counts, 1)).astype(np.float32)).unsqueeze(1)
