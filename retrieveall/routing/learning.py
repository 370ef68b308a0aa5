"""Learning of the `linear` router's weights (see regression.py).

Every language counts alike, however few its sentences are: with 300 sentences of one beside 6,000 of each
of five others, that is worth three points (PAN-X). Source: own choice. It must hold for one language and
for 1,000, so there are limits, with L languages:

- at most 20,000 sentences a language, 500,000 in all, 2^28 / L² a language: all of them up to 25 languages,
  268 of each of 1,000; their first 128 characters. The hashes of all are held at once, 0.3 GB of short
  sentences such as PAN-X's, 1.3 GB at most;
- R ≤ 2^20 rows with R·L ≤ 2^26: at most 268 MB of float32 (25 MB for six languages), half of it on disk;
- S ≤ 2^22 bits a language for the n-grams seen, S·L ≤ 2^30: at most 134 MB (3 MB for six languages).

Axes: N sentences, G n-grams, R rows, L languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from retrieveall.corpus.limits import limited
from retrieveall.embedding.hashing import text_batches
from retrieveall.errors import NotFoundError
from retrieveall.hashed_table import Counts
from retrieveall.retrieval.index import LanguageIndex
from retrieveall.routing.linear import LinearWeights, ngrams_of, scale, slots_of
from retrieveall.routing.regression import regression

MOST_OF_A_LANGUAGE = 20_000
MOST_SENTENCES = 500_000
MOST_SCORES = 1 << 28  # of all sentences in all languages: what a pass over them costs
MOST_CHARACTERS = 128
MOST_WEIGHTS, MOST_ROWS = 1 << 26, 1 << 20
MOST_BITS, MOST_SLOTS = 1 << 30, 1 << 22
EPOCHS = 3


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
    language_N = torch.from_numpy(labels)
    of_language = torch.bincount(language_N, minlength=len(languages)).clamp(min=1)
    rows_RL = regression(
        torch.from_numpy(features),
        counts,
        language_N,
        scale(counts),
        shape=(rows, len(languages)),
        epochs=EPOCHS,
        worth_N1=(len(labels) / (len(languages) * of_language))[language_N].unsqueeze(1),
    )
    return LinearWeights(languages=languages, rows_RL=rows_RL.half().float(), seen=seen)


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
