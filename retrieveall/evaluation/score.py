"""One score: F1 with its interval, precision, recall and what it was counted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from retrieveall.evaluation.bootstrap import RESAMPLES, Counts, bootstrap_f1, f1_of_counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A micro-averaged score; everything is a fraction, nothing a percentage.

    Attributes:
        f1: 0 where there is neither a gold nor a predicted mention, as seqeval has it.
        f1_low: Lower bound of the 95 % percentile bootstrap interval over sentences.
        f1_high: Upper bound.
        precision: Right among predicted.
        recall: Right among gold.
        support: Gold mentions.
        predicted: Predicted mentions.
        sentences: Sentences it was counted on.
    """

    f1: float
    f1_low: float
    f1_high: float
    precision: float
    recall: float
    support: int
    predicted: int
    sentences: int

    @classmethod
    def of(cls, counts_SK: Counts, *, resamples: int = RESAMPLES, seed: int = 0) -> Self:
        """Scores ``(S, 3)`` counts of true positives, false positives and false negatives.

        Raises:
            InputError: There are no sentences.
        """
        interval = bootstrap_f1(counts_SK, resamples=resamples, seed=seed)
        total = counts_SK.sum(axis=0)
        tp, fp, fn = (int(value) for value in total)
        return cls(
            f1=float(f1_of_counts(total)),
            f1_low=interval.low,
            f1_high=interval.high,
            precision=tp / max(tp + fp, 1),
            recall=tp / max(tp + fn, 1),
            support=tp + fn,
            predicted=tp + fp,
            sentences=len(counts_SK),
        )
