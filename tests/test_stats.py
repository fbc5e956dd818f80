"""stats.py: hand-worked means and intervals, and the coverage of the bootstrap on simulated runs."""

import warnings

import numpy as np
import pytest

from jaxrl import stats

# Sorted: 1 2 3 4 5 6 7 100. A quarter of 8 is 2 at each end, which leaves 3 4 5 6: 4.5.
# Of 6 scores, 1.5 rounds down to 1 at each end: 2 3 4 5 → 3.5; of 3 none: (1 + 2 + 9) / 3 = 4.
IQM = [
    ([100, 1, 7, 2, 6, 3, 5, 4], 4.5),
    ([1, 2, 3, 4, 5, 60], 3.5),
    ([1, 2, 9], 4.0),
    ([5], 5.0),
]


@pytest.mark.parametrize(("scores", "expected"), IQM)
def test_iqm(scores, expected):
    assert stats.iqm(np.array(scores, float)) == pytest.approx(expected)
    table = np.array([scores, np.array(scores) + 10.0])
    np.testing.assert_allclose(stats.iqm(table, 1), [expected, expected + 10])


@pytest.mark.parametrize(("axis", "expected"), [(-1, [2.0, 5.0]), (0, [2.5, 3.5, 4.5])])
def test_mean(axis, expected):
    np.testing.assert_allclose(stats.mean(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), axis), expected)


def test_the_interval_of_two_runs_by_hand():
    """Resamples of {0, 10} are (0,0), (0,10), (10,0), (10,10): means 0, 5, 10 with weights ¼ ½ ¼.

    The 2.5 % and 97.5 % quantiles are therefore 0 and 10.
    """
    assert stats.bootstrap_interval([0.0, 10.0]) == (0.0, 10.0)


def test_the_interval_of_skewed_runs_by_hand():
    """Of {0, 0, 9} a resample holds k nines, k binomial (3, ⅓), and has the mean 3 k.

    P(k = 0) = 8 / 27 and P(k = 3) = 1 / 27 are both above 2.5 %: the quantiles are 0 and 9.
    """
    assert stats.bootstrap_interval([0.0, 0.0, 9.0]) == (0.0, 9.0)


def test_the_interval_of_many_zeros_and_ones_by_hand():
    """The mean of n resampled 0s and 1s, half each, is binomial(n, ½) / n: for n = 400, ½ ± 1.96 · √(¼ / 400)."""
    low, high = stats.bootstrap_interval([0.0, 1.0] * 200, resamples=10_000)
    np.testing.assert_allclose([low, high], [0.5 - 0.049, 0.5 + 0.049], atol=0.005)


@pytest.mark.parametrize("statistic", [stats.mean, stats.iqm])
def test_coverage(statistic):
    """Of 200 experiments of 20 normal runs, 95 % intervals hold the true centre in 88 to 99 % of the cases."""
    runs = np.random.default_rng(0).normal(3.0, 2.0, (200, 20))
    intervals = np.array([stats.bootstrap_interval(r, statistic, resamples=400) for r in runs])
    covered = np.mean((intervals[:, 0] <= 3) & (3 <= intervals[:, 1]))
    assert 0.88 <= covered <= 0.99


def test_runs_are_resampled_within_their_task():
    """Two tasks without variance of their own: whatever is drawn, the mean is (0 · 5 + 100 · 5) / 10 = 50."""
    assert stats.bootstrap_interval([[0.0] * 5, [100.0] * 5]) == (50.0, 50.0)
    low, high = stats.bootstrap_interval([0.0] * 5 + [100.0] * 5)  # as one task it is far from certain
    assert high - low > 30


def test_the_interquartile_mean_is_taken_over_all_tasks_pooled():
    """Of 0 0 0 0 10 10 10 10 the middle half is 0 0 10 10: 5. Within the tasks it would be 0 and 10."""
    assert stats.bootstrap_interval([[0.0] * 4, [10.0] * 4], stats.iqm) == (5.0, 5.0)


@pytest.mark.parametrize("scores", [[3.0], [[3.0], [4.0]]])
def test_one_run_has_no_interval(scores):
    assert np.isnan(stats.bootstrap_interval(scores)).all()


def test_equal_runs_give_a_zero_width_interval_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stats.bootstrap_interval([7.0] * 4) == (7.0, 7.0)


def test_the_same_scores_give_the_same_interval():
    scores = np.random.default_rng(1).normal(size=8)
    assert stats.bootstrap_interval(scores) == stats.bootstrap_interval(scores)
    assert stats.bootstrap_interval(scores, seed=1) != stats.bootstrap_interval(scores)
