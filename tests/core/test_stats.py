"""stats.py: hand-worked numbers, all resamples listed, plain loops, and the coverage of the bootstrap on simulated runs."""

import functools
import itertools
import statistics

import numpy as np
import pytest
import scipy.stats

from jaxrl.core import stats
from jaxrl.core.errors import InputError

# Sorted: 1 2 3 4 5 6 7 100. A quarter of 8 is 2 at each end, which leaves 3 4 5 6: 4.5.
# Of 6 scores, 1.5 rounds down to 1 at each end: 2 3 4 5 → 3.5; of 3 none: (1 + 2 + 9) / 3 = 4.
IQM = [([100, 1, 7, 2, 6, 3, 5, 4], 4.5), ([1, 2, 3, 4, 5, 60], 3.5), ([1, 2, 9], 4.0), ([5], 5.0)]
POOLED = [stats.mean, stats.iqm, stats.optimality_gap]
RANDOM = np.random.default_rng(0).normal(0.6, 1.0, (3, 7))


@pytest.mark.parametrize(("scores", "expected"), IQM)
def test_iqm(scores, expected):
    assert stats.iqm(np.array(scores, float)) == pytest.approx(expected)
    table = np.array([scores, np.array(scores) + 10.0])
    np.testing.assert_allclose(stats.iqm(table, 1), [expected, expected + 10])
    np.testing.assert_allclose(stats.iqm(table, None), scipy.stats.trim_mean(table, 0.25, None))


@pytest.mark.parametrize(("axis", "expected"), [(-1, [2.0, 5.0]), (0, [2.5, 3.5, 4.5]), ((0, 1), 3.5), (None, 3.5)])
def test_mean(axis, expected):
    np.testing.assert_allclose(stats.mean(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), axis), expected)


@pytest.mark.parametrize("statistic", POOLED)
def test_several_axes_are_pooled(statistic):
    x = np.random.default_rng(1).normal(size=(4, 3, 5))
    expected = [statistic(x[:, i].ravel()) for i in range(3)]
    for axes in [(0, 2), (2, 0), (-1, -3)]:
        np.testing.assert_allclose(statistic(x, axis=axes), expected)
    assert statistic(x, axis=None) == pytest.approx(statistic(x.ravel()))
    assert statistic(np.array([0.1, 0.1], np.float32)).dtype == np.float32  # a summary prints 0.1, not 0.10000000149


@pytest.mark.parametrize(("gamma", "expected"), [(1.0, 0.625), (0.5, 0.375), (3.0, 2.375)])
def test_optimality_gap(gamma, expected):
    """Of ½, 2, 1, -1: short of 1 by ½ 0 0 2, mean 0.625; of ½ by 0 0 0 1½; of 3 by 2½ 1 2 4: 9½ / 4 = 2.375."""
    assert stats.optimality_gap([0.5, 2.0, 1.0, -1.0], gamma) == expected
    assert stats.optimality_gap([0.5, 1e9, 1.0, -1.0]) == 0.625  # what exceeds gamma does not count


# Means of the tasks 5, 1, 150: 5 (all six scores pooled have the median 5.5). Of 4, 0, 100, 3: 3.5.
MEDIAN = [([[0, 10], [1, 1], [100, 200]], 5), ([[4, 4], [0, 0], [99, 101], [1, 5]], 3.5)]


@pytest.mark.parametrize(("scores", "expected"), MEDIAN)
def test_median(scores, expected):
    assert stats.median(scores) == expected
    assert stats.median(np.transpose(scores), axis=(1, 0)) == expected
    np.testing.assert_array_equal(stats.median([scores, np.array(scores) + 1]), [expected, expected + 1])


# Above 1: of the first task 2 3, of the second 5; 5 and more: none; 0 itself is not above 0; -1 and less: all.
PROFILE = [(-1.0, 1.0), (0.0, 5 / 6), (1.0, 3 / 6), (4.9, 1 / 6), (5.0, 0.0), (99.0, 0.0)]


def test_performance_profile():
    scores, (thresholds, expected) = [[1, 2, 3], [0, 5, 1]], np.transpose(PROFILE)
    np.testing.assert_allclose(stats.performance_profile(scores, thresholds), expected)
    thresholds = [2.0, -0.5, 0.0, RANDOM[1, 2]]
    for t, found in zip(thresholds, stats.performance_profile(RANDOM, thresholds), strict=True):
        assert found == pytest.approx(statistics.fmean(sum(x > t for x in runs) / len(runs) for runs in RANDOM))


def test_the_area_over_the_profile_is_the_optimality_gap():
    """∫ P(X > t) dt from 0 to γ is E min(X, γ) where X ≥ 0; the midpoint rule of 2000 steps is off by a step at most."""
    scores, gamma = np.abs(RANDOM), 0.8
    thresholds = (np.arange(2000) + 0.5) / 2000 * gamma
    area = gamma * np.mean(1 - stats.performance_profile(scores, thresholds))
    assert stats.optimality_gap(scores, gamma, axis=None) == pytest.approx(area, abs=gamma / 2000)


# 1 beats none of 2 2 5, 2 ties with two, 3 beats two: (0 + 2 · ½ + 2) / 9. Second task: 9 beats all, and so do its copies.
# The tasks count alike: (⅓ + 1) / 2. One run against three: 3 beats two of them, ties with none.
IMPROVEMENT = [
    ([1, 2, 3], [2, 2, 5], 1 / 3),
    ([[1, 2, 3], [9, 9, 9]], [[2, 2, 5], [0, 1, 2]], 2 / 3),
    ([3], [2, 2, 5], 2 / 3),
    ([7, 7], [7, 7, 7], 0.5),
    ([np.inf, 0], [np.inf, -np.inf], 0.625),  # ½ + 1 + 0 + 1 of 4
]


@pytest.mark.parametrize(("x", "y", "expected"), IMPROVEMENT)
def test_probability_of_improvement(x, y, expected):
    assert stats.probability_of_improvement(x, y) == pytest.approx(expected)
    assert stats.probability_of_improvement(y, x) == pytest.approx(1 - expected)


def test_probability_of_improvement_by_loops_and_by_scipy():
    """Rounded scores, so that there are ties; invariant to what keeps the order within a task."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.3, 1, (4, 6)).round(1), rng.normal(0, 1, (4, 9)).round(1)
    pairs = [[(a > b) + (a == b) / 2 for a in xs for b in ys] for xs, ys in zip(x, y, strict=True)]
    found = stats.probability_of_improvement(x, y)
    assert found == pytest.approx(statistics.fmean(map(statistics.fmean, pairs)))
    assert found == pytest.approx(np.mean(scipy.stats.mannwhitneyu(x, y, axis=1).statistic) / 54)
    scale = np.array([[1.0], [1e3], [0.01], [7.0]])
    assert found == stats.probability_of_improvement(np.exp(x) * scale, np.exp(y) * scale)


BY_HAND = [
    ([0.0, 10.0], stats.mean, (0.0, 10.0)),  # 0 0, 0 10, 10 0, 10 10: means 0 5 10 of chance ¼ ½ ¼
    ([0.0, 0.0, 9.0], stats.mean, (0.0, 9.0)),  # k nines, k binomial (3, ⅓): 0 has the chance 8 / 27, 9 has 1 / 27 > 2.5 %
    ([[0.0] * 5, [100.0] * 5], stats.mean, (50.0, 50.0)),  # no variance within a task; as one task it is from 20 to 80
    ([[0.0] * 4, [10.0] * 4], stats.iqm, (5.0, 5.0)),  # the middle half of all is 0 0 10 10; within tasks 0 and 10
    ([[0.0, 0.0], [3.0, 3.0], [7.0, 9.0]], stats.median, (3.0, 3.0)),  # the middle task does not vary
    ([1.0, 2.0, np.inf, np.inf], stats.mean, (1.5, np.nan)),  # 1, 1¼, 1½ of chance 1 4 6 / 256; ∞ - ∞ is no number
    ([7.0] * 4, stats.mean, (7.0, 7.0)),
]


@pytest.mark.parametrize(("scores", "statistic", "expected"), BY_HAND)
def test_the_interval_by_hand(scores, statistic, expected):
    np.testing.assert_array_equal(stats.bootstrap_interval(scores, statistic), expected)


def test_the_interval_of_many_zeros_and_ones_by_hand():
    """The mean of n resampled 0s and 1s, half each, is binomial(n, ½) / n: for n = 400, ½ ± 1.96 · √(¼ / 400)."""
    low, high = stats.bootstrap_interval([0.0, 1.0] * 200, resamples=10_000)
    np.testing.assert_allclose([low, high], [0.5 - 0.049, 0.5 + 0.049], atol=0.005)


def _pool(tasks):
    return [x for runs in tasks for x in runs]


PLAIN = [
    (stats.mean, lambda tasks: statistics.fmean(_pool(tasks))),
    (stats.iqm, lambda tasks: statistics.fmean(sorted(_pool(tasks))[1:-1])),
    (stats.median, lambda tasks: statistics.median(map(statistics.fmean, tasks))),
    (
        functools.partial(stats.optimality_gap, gamma=0.5),
        lambda tasks: statistics.fmean(max(0.5 - x, 0) for x in _pool(tasks)),
    ),
    (np.max, lambda tasks: max(_pool(tasks))),
]


@pytest.mark.parametrize(("statistic", "plain"), PLAIN)
def test_the_interval_is_that_of_all_resamples(statistic, plain):
    """3 tasks of 2 runs have 4³ = 64 resamples of equal chance: the 2.5 % quantile is the second, the 97.5 % the 63rd.

    The second lies from 1.56 % to 3.13 %, five standard errors of 20,000 draws from 2.5 % on either side.
    """
    scores = [[0.0, 0.7], [-1.0, 0.4], [0.2, 3.0]]
    resamples = itertools.product(*(itertools.product(runs, repeat=2) for runs in scores))
    values = sorted(plain(tasks) for tasks in resamples)
    assert len(values) == 64
    np.testing.assert_allclose(stats.bootstrap_interval(scores, statistic, resamples=20_000), [values[1], values[-2]])


def test_tasks_are_resampled_independently():
    """Both tasks 0 10: their means differ by -10 in one of 16 draws and by 10 in another; with the same runs by 0 in all."""

    def difference(scores, axis):
        return np.diff(scores.mean(axis[1]), axis=-1)[..., 0]

    assert stats.bootstrap_interval([[0.0, 10.0], [0.0, 10.0]], difference) == (-10.0, 10.0)
    assert stats.improvement_interval([0.0, 10.0], [0.0, 10.0]) == (0.0, 1.0)  # so are x and y


@pytest.mark.parametrize(("block", "sizes"), [(1000, [11]), (100, [4, 4, 3])])
def test_the_draws_are_scipys(monkeypatch, block, sizes):
    """All at once, or in blocks: of at most 100 / 21 scores → 4 resamples. scipy's bootstrap takes each task as a sample."""
    monkeypatch.setattr(stats, "BLOCK", block)
    seen = []

    def spy(scores, axis):
        seen.append(scores.shape[:-2])
        return np.mean(scores, axis)

    found = stats.bootstrap_interval(RANDOM, spy, resamples=11, seed=5)
    assert seen == [(), *((n,) for n in sizes)]
    options = {"n_resamples": 11, "batch": sizes[0], "method": "percentile", "vectorized": True}
    rng = np.random.default_rng(5)
    expected = scipy.stats.bootstrap(tuple(RANDOM), lambda *tasks, axis: np.mean(tasks, (0, axis)), rng=rng, **options)
    np.testing.assert_allclose(found, expected.confidence_interval, rtol=1e-12)


def test_the_band_is_the_interval_of_the_mean_of_passes():
    """And it holds the profile; beyond the scores, where all runs agree, it has no width."""
    thresholds = [-9.0, 0.0, 0.5, 9.0]
    band = stats.profile_band(RANDOM, thresholds, resamples=500)
    expected = [stats.bootstrap_interval(RANDOM > t, resamples=500) for t in thresholds]
    np.testing.assert_allclose(np.transpose(band), expected)
    profile = stats.performance_profile(RANDOM, thresholds)
    assert (band.low <= profile).all() and (profile <= band.high).all()
    np.testing.assert_array_equal(band.high - band.low > 0, [False, True, True, False])


def _covered(interval, true, shape):
    """The share of 200 experiments, scores normal (3, 2) + 10 · task, whose intervals hold the true value, per number."""
    rng = np.random.default_rng(0)
    experiments = 3 + 10 * np.arange(shape[0])[:, None] + 2 * rng.normal(size=(200, *shape))
    ends = np.array([interval(x) for x in experiments])
    return np.mean((ends[:, 0] <= true) & (true <= ends[:, 1]), 0)


# E min(X, 4) of a normal (3, 2) is 3 - 2 (φ(½) - ½ (1 - Φ(½))) = 2.6044, so that the gap of 4 is 1.3956 in that task and,
# of the tasks around 13 and 23, below 1e-4.
COVERED = [
    (stats.mean, 3.0, (1, 20)),
    (stats.iqm, 3.0, (1, 20)),
    (stats.median, 13.0, (3, 20)),
    (functools.partial(stats.optimality_gap, gamma=4.0), 1.3956 / 3, (3, 20)),
]


@pytest.mark.parametrize(("statistic", "true", "shape"), COVERED)
def test_coverage(statistic, true, shape):
    """95 % intervals hold the true value in 88 to 99 % of 200 experiments (a percentile interval of 20 runs is narrow)."""
    assert 0.88 <= _covered(lambda x: stats.bootstrap_interval(x, statistic, resamples=400), true, shape) <= 0.99


def test_coverage_of_the_band_and_of_improvement():
    """P(X > t) by the normal distribution. X - Y is normal (1, √8) in every task where Y is one less on average."""
    t = np.array([2.0, 4.0, 12.0, 23.0])
    true = scipy.stats.norm.sf(t, [[3], [13], [23]], 2).mean(0)
    covered = _covered(lambda x: stats.profile_band(x, t, resamples=400), true, (3, 20))
    assert (covered >= 0.88).all() and (covered <= 0.995).all()
    true = scipy.stats.norm.cdf(1 / np.sqrt(8))
    covered = _covered(lambda z: stats.improvement_interval(z[:, :20], z[:, 20:] - 1, resamples=400), true, (3, 35))
    assert 0.88 <= covered <= 0.99


@pytest.mark.parametrize("statistic", [stats.mean, stats.iqm, stats.median])
def test_the_interval_follows_a_change_of_unit(statistic):
    low, high = stats.bootstrap_interval(RANDOM, statistic, resamples=200)
    found = stats.bootstrap_interval(4 * RANDOM - 3, statistic, resamples=200)
    np.testing.assert_allclose(found, [4 * low - 3, 4 * high - 3])


def test_two_seeds_have_no_interval_that_is_shown():
    assert np.isnan(stats.seed_interval([3.0, 4.0])).all() and np.isnan(stats.seed_interval([3.0])).all()
    assert stats.seed_interval([3.0, 4.0, 5.0]) == stats.bootstrap_interval([3.0, 4.0, 5.0]) == (3.0, 5.0)


@pytest.mark.parametrize("scores", [[3.0], [[3.0], [4.0]]])
def test_one_run_has_no_interval(scores):
    assert np.isnan(stats.bootstrap_interval(scores)).all()
    assert np.isnan(stats.improvement_interval(scores, np.ones((np.ndim(scores), 4)))).all()
    band = stats.profile_band(scores, [1.0, 2.0, 3.0])
    assert band.low.shape == (3,) and np.isnan(band).all()


def test_a_diverged_run_is_neither_dropped_nor_ranked():
    """One NaN of three tasks: NaN wherever it enters, also where no resample holds it; the other tasks keep theirs."""
    bad = RANDOM.copy()
    bad[1, 3] = np.nan
    for statistic in POOLED:
        assert np.isnan(statistic(bad, axis=None))
        np.testing.assert_array_equal(np.isnan(statistic(bad)), [False, True, False])
    assert np.isnan(stats.median(bad))
    assert np.isnan(stats.performance_profile(bad, [-99.0, 99.0])).all()
    assert np.isnan([stats.probability_of_improvement(*xy) for xy in [(bad, RANDOM), (RANDOM, bad)]]).all()
    for statistic in [*POOLED, stats.median]:
        assert np.isnan([stats.bootstrap_interval(bad, statistic, resamples=1, seed=i) for i in range(9)]).all()
    assert np.isnan(stats.profile_band(bad, [0.0], resamples=2)).all()
    assert np.isnan(stats.improvement_interval(RANDOM, bad, resamples=2)).all()


def test_the_same_scores_give_the_same_interval():
    scores = np.random.default_rng(1).normal(size=8)
    assert stats.bootstrap_interval(scores) == stats.bootstrap_interval(scores)
    assert stats.bootstrap_interval(scores, seed=1) != stats.bootstrap_interval(scores)


CUBE = np.zeros((2, 2, 2))
REFUSED = [
    (lambda: stats.mean([]), r"scores are empty: shape \(0,\)"),
    (lambda: stats.iqm([[1.0], [2.0, 3.0]]), "scores must be a table of numbers"),
    (lambda: stats.mean(["a"]), "scores must be a table of numbers"),
    (lambda: stats.mean([1.0], axis=1), r"scores of shape \(1,\) have no axis=\(1,\)"),
    (lambda: stats.optimality_gap(RANDOM, axis=(0, 0)), r"have no axis=\(0, 0\)"),
    (lambda: stats.median([1.0, 2.0]), r"scores of shape \(2,\) have no axis=\(-2, -1\)"),
    (lambda: stats.median(RANDOM, axis=-1), r"two axes, \(tasks, runs\), not axis=-1"),
    (lambda: stats.performance_profile(CUBE, [0.0]), r"\[tasks, runs\] or \[runs\], not of shape \(2, 2, 2\)"),
    (lambda: stats.performance_profile(RANDOM, 0.0), r"thresholds must be \[T\], not of shape \(\)"),
    (lambda: stats.performance_profile(RANDOM, []), "thresholds are empty"),
    (lambda: stats.profile_band(RANDOM, [0.0, np.nan]), "thresholds must not be NaN: number 1 is"),
    (lambda: stats.probability_of_improvement(RANDOM, CUBE), "y must be"),
    (lambda: stats.improvement_interval(RANDOM, RANDOM[:2]), "same tasks: x has 3, y has 2"),
    (lambda: stats.bootstrap_interval(CUBE), "scores must be"),
    (lambda: stats.bootstrap_interval(5.0), r"scores must be .* not of shape \(\)"),
    (lambda: stats.bootstrap_interval(RANDOM, resamples=0), "resamples must be at least 1, not 0"),
    (lambda: stats.bootstrap_interval(RANDOM, lambda x, axis: x.mean()), r"leave \(2000,\) of 2000 resamples, not \(\)"),
    (lambda: stats.bootstrap_interval(RANDOM, lambda x, axis: x.mean(-1)), r"not \(2000, 3\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_is_no_table_of_scores_is_named_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
