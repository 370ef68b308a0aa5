from __future__ import annotations

import numpy as np
import pytest

from retrieveall.errors import InputError
from retrieveall.evaluation.bootstrap import (
    Counts,
    bootstrap_f1,
    bootstrap_macro,
    bootstrap_mean_macro,
    f1_of_counts,
    paired_bootstrap,
    paired_bootstrap_of_means,
    resample_totals,
)


def random_counts(sentences: int, hit_rate: float, seed: int) -> Counts:
    """Two gold mentions a sentence, each hit with ``hit_rate``, and now and then a spurious one."""
    rng = np.random.default_rng(seed)
    hits = rng.binomial(2, hit_rate, size=sentences)
    return np.stack([hits, rng.binomial(1, 0.2, size=sentences), 2 - hits], axis=1)


def test_f1_by_hand() -> None:
    assert f1_of_counts(np.array([[3, 1, 2], [0, 0, 0], [0, 4, 0]])).tolist() == [6 / 9, 0.0, 0.0]


def test_distinct_rows_draw_the_distribution_of_drawn_sentences() -> None:
    counts = random_counts(150, 0.7, seed=1)
    rng = np.random.default_rng(2)
    by_sentence = counts[rng.integers(0, 150, size=(20_000, 150))].sum(axis=1)
    by_row = resample_totals(counts, resamples=20_000, rng=np.random.default_rng(3))
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    expected = np.quantile(f1_of_counts(by_sentence), quantiles)
    assert np.allclose(np.quantile(f1_of_counts(by_row), quantiles), expected, atol=0.004)
    assert np.allclose(np.cov(by_row.T), np.cov(by_sentence.T), rtol=0.1, atol=1.5)


def test_same_seed_same_interval() -> None:
    counts = random_counts(300, 0.7, seed=1)
    assert bootstrap_f1(counts, seed=4) == bootstrap_f1(counts, seed=4)
    assert bootstrap_f1(counts, seed=4) != bootstrap_f1(counts, seed=5)


def test_interval_covers_the_true_value_about_as_often_as_it_says() -> None:
    truth = float(f1_of_counts(np.array([1400, 200, 600])))  # expected counts per 1,000 sentences
    covered = 0
    for seed in range(300):
        interval = bootstrap_f1(random_counts(200, 0.7, seed=seed), resamples=500, seed=seed)
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / 300 <= 0.99


def test_macro_interval_is_narrower_than_a_language_s() -> None:
    languages = [random_counts(200, 0.7, seed=seed) for seed in range(6)]
    one, six = bootstrap_f1(languages[0]), bootstrap_macro(languages)
    assert six.high - six.low < 0.6 * (one.high - one.low)


def test_equal_systems_do_not_beat_each_other() -> None:
    counts = random_counts(100, 0.5, seed=1)
    result = paired_bootstrap([counts], [counts])
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_better_system_wins_and_the_worse_one_does_not() -> None:
    better, worse = random_counts(400, 0.8, seed=1), random_counts(400, 0.6, seed=2)
    won, lost = paired_bootstrap([better], [worse]), paired_bootstrap([worse], [better])
    assert won.low > 0
    assert won.p_value == pytest.approx(1 / 1001)
    assert lost.p_value == 1
    assert lost.difference == -won.difference
    assert won.difference == float(f1_of_counts(better.sum(0)) - f1_of_counts(worse.sum(0)))


def test_pairing_uses_that_the_same_sentences_are_hard() -> None:
    b = random_counts(300, 0.5, seed=1)
    a = b.copy()
    missed = np.flatnonzero(a[:, 2])[:8]
    a[missed] += [1, 0, -1]  # A finds eight mentions more and is otherwise the same
    result = paired_bootstrap([a], [b])
    apart = bootstrap_f1(a)
    assert result.low > 0
    assert result.high - result.low < 0.5 * (apart.high - apart.low)


def test_p_value_is_uniform_enough_under_no_difference() -> None:
    pairs = [(random_counts(100, 0.6, seed=s), random_counts(100, 0.6, seed=s + 9000)) for s in range(200)]
    p_values = np.array([paired_bootstrap([a], [b], resamples=200).p_value for a, b in pairs])
    assert 0.01 <= np.mean(p_values <= 0.05) <= 0.10


def test_other_sentences_cannot_be_paired() -> None:
    with pytest.raises(InputError, match=r"\[3\] sentences per language in one run and \[4\] in another"):
        paired_bootstrap([random_counts(3, 0.5, 1)], [random_counts(4, 0.5, 1)])


def test_the_mean_over_runs_is_tested_on_the_same_sentences() -> None:
    good = [[random_counts(200, 0.8, seed)] for seed in (1, 2)]
    poor = [[random_counts(200, 0.6, 3)]]
    together = paired_bootstrap_of_means(good, poor)
    single = [paired_bootstrap(run, poor[0]).difference for run in good]
    interval = bootstrap_mean_macro(good)
    scores = [float(f1_of_counts(run[0].sum(axis=0))) for run in good]

    assert together.difference == pytest.approx(sum(single) / 2)
    assert together.low > 0 and together.p_value < 0.01
    assert interval.low < sum(scores) / 2 < interval.high
    assert bootstrap_mean_macro(good[:1]) == bootstrap_macro(good[0])


def test_nothing_to_resample_is_an_error() -> None:
    with pytest.raises(InputError, match="0 sentences"):
        bootstrap_f1(np.zeros((0, 3), dtype=np.int64))
    with pytest.raises(InputError, match="0 languages"):
        bootstrap_macro([])
