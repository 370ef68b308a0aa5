"""Percentile bootstrap over sentences, for one F1, a macro F1 and the difference of two systems.

Axes: S sentences, R resamples, U distinct rows of counts, C columns of counts, K = 3 (tp, fp, fn).

Drawing S sentences with replacement is the same as drawing how often each *distinct* row of
counts occurs, multinomially with the row's share as its probability. A test set of 10,000
sentences has some dozens of distinct rows, so a resample costs U draws and not S.
Source: own choice of at least 1,000 resamples, paired for "A beats B"; the interval is Efron's
percentile interval, the p-value Koehn's (2004) share of resamples in which A does not win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieveall.errors import InputError

RESAMPLES = 1000
CONFIDENCE = 0.95

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A percentile interval.

    Attributes:
        low: Lower bound, a fraction.
        high: Upper bound, a fraction.
    """

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What a paired bootstrap says about "A beats B".

    Attributes:
        difference: F1 of A minus F1 of B on the whole set.
        low: Lower bound of the difference's percentile interval.
        high: Upper bound.
        p_value: One-sided; share of resamples where A is not better than B, ``(1 + n) / (1 + R)``.
        resamples: R.
    """

    difference: float
    low: float
    high: float
    p_value: float
    resamples: int


def f1_of_counts(counts: Counts) -> Floats:
    """Returns 2tp / (2tp + fp + fn), and 0 where nothing is gold and nothing predicted (as seqeval).

    Args:
        counts: ``(..., 3)`` true positives, false positives, false negatives.

    Returns:
        ``(...)`` fractions.
    """
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    whole = 2 * tp + fp + fn
    return np.asarray(2 * tp / np.maximum(whole, 1), dtype=np.float64)


def resample_totals(counts_SC: Counts, *, resamples: int, rng: np.random.Generator) -> Counts:
    """Draws S sentences with replacement, R times, and sums their counts.

    Args:
        counts_SC: Counts per sentence; columns are resampled together.
        resamples: R.
        rng: Source of randomness.

    Returns:
        ``(R, C)`` totals.

    Raises:
        InputError: There are no sentences.
    """
    if len(counts_SC) == 0:
        raise InputError("A bootstrap was asked for over 0 sentences; give at least one sentence.")
    rows_UC, times_U = np.unique(counts_SC, axis=0, return_counts=True)
    draws_RU = rng.multinomial(len(counts_SC), times_U / len(counts_SC), size=resamples)
    return np.asarray(draws_RU @ rows_UC, dtype=np.int64)


def percentile_interval(values_R: Floats, *, confidence: float = CONFIDENCE) -> Interval:
    """Returns the central ``confidence`` part of resampled values.

    Args:
        values_R: One value per resample.
        confidence: Share of the resamples inside, such as 0.95.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def bootstrap_f1(counts_SK: Counts, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Returns the interval of one micro-F1.

    Args:
        counts_SK: tp, fp, fn per sentence.
        resamples: R.
        seed: The same seed gives the same interval.

    Raises:
        InputError: There are no sentences.
    """
    rng = np.random.default_rng(seed)
    return percentile_interval(f1_of_counts(resample_totals(counts_SK, resamples=resamples, rng=rng)))


def bootstrap_macro(languages: Sequence[Counts], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Returns the interval of a macro F1; each language's sentences are resampled on their own.

    Args:
        languages: One ``(S, 3)`` array per language.
        resamples: R.
        seed: The same seed gives the same interval.

    Raises:
        InputError: There are no languages, or one has no sentences.
    """
    return bootstrap_mean_macro([languages], resamples=resamples, seed=seed)


def bootstrap_mean_macro(
    runs: Sequence[Sequence[Counts]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Returns the interval of the mean over runs of a macro F1, such as over training seeds.

    All runs are scored on the same resampled sentences. The interval is over sentences: the spread between
    runs stands beside it, not in it.

    Args:
        runs: At least one, each as `bootstrap_macro` takes it, all on the same sentences in the same order.
        resamples: R.
        seed: The same seed gives the same interval.

    Raises:
        InputError: The runs differ in languages or sentences, or there are none.
    """
    values_NR = _macro_resamples(_joined(runs), len(runs), resamples, seed)
    return percentile_interval(values_NR.mean(axis=0))


def paired_bootstrap(
    a: Sequence[Counts], b: Sequence[Counts], *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Tests "A beats B" on macro F1; with one language that is its micro-F1.

    Both systems are scored on the same resampled sentences, so what makes a sentence hard for
    both cancels out.

    Args:
        a: One ``(S, 3)`` array per language, system A.
        b: System B on the same sentences in the same order.
        resamples: R.
        seed: The same seed gives the same answer.

    Raises:
        InputError: A and B do not have the same languages and sentences, or have none.
    """
    return paired_bootstrap_of_means([a], [b], resamples=resamples, seed=seed)


def paired_bootstrap_of_means(
    a: Sequence[Sequence[Counts]],
    b: Sequence[Sequence[Counts]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Tests "A beats B" on the mean over each system's runs of macro F1.

    Args:
        a: At least one run of system A, each as `paired_bootstrap` takes it.
        b: Of system B; the numbers of runs may differ.
        resamples: R.
        seed: The same seed gives the same answer.

    Raises:
        InputError: The runs differ in languages or sentences, or have none.
    """
    values_NR = _macro_resamples(_joined([*a, *b]), len(a) + len(b), resamples, seed)
    differences_R = values_NR[: len(a)].mean(axis=0) - values_NR[len(a) :].mean(axis=0)
    interval = percentile_interval(differences_R)
    return Difference(
        difference=float(np.mean(list(map(_macro_f1, a))) - np.mean(list(map(_macro_f1, b)))),
        low=interval.low,
        high=interval.high,
        p_value=float((1 + np.sum(differences_R <= 0)) / (1 + resamples)),
        resamples=resamples,
    )


def _joined(runs: Sequence[Sequence[Counts]]) -> list[Counts]:
    """Returns one ``(S, 3 N)`` array per language, of N runs."""
    shapes = [[len(one) for one in run] for run in runs]
    for shape in shapes[1:]:
        if shape != shapes[0]:
            raise InputError(
                f"A bootstrap got {shapes[0]} sentences per language in one run and {shape} in another;"
                " score all of them on the same sentences in the same order."
            )
    return [np.concatenate(same, axis=1) for same in zip(*runs, strict=True)]


def _macro_f1(languages: Sequence[Counts]) -> float:
    return float(np.mean([f1_of_counts(counts.sum(axis=0)) for counts in languages]))


def _macro_resamples(languages: Sequence[Counts], systems: int, resamples: int, seed: int) -> Floats:
    """Returns ``(systems, R)`` macro F1; columns of each array are ``systems`` times (tp, fp, fn)."""
    if not languages:
        raise InputError("A bootstrap was asked for over 0 languages; give at least one.")
    values = np.zeros((systems, resamples))
    for number, counts in enumerate(languages):
        # One stream per language: adding a language leaves the others' draws as they were.
        totals = resample_totals(counts, resamples=resamples, rng=np.random.default_rng([seed, number]))
        values += f1_of_counts(totals.reshape(resamples, systems, 3)).T
    return values / len(languages)
