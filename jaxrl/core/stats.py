"""Statistics over runs and tasks: what a paper may state (Agarwal et al. 2021).

Source of all: Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021, arXiv:2108.13264, section 4. Scores are [tasks, runs], the transpose of the paper's code; a vector
[runs] is one task. Over several tasks they mean something only where normalised to one unit per task.

A statistic reduces the axes it is given as numpy does: `bootstrap_interval` calls `statistic(scores, axis=(-2, -1))` on
[resamples, tasks, runs], so that it sees which runs are of one task. numpy's own, such as `np.max`, fit too.

A NaN score (a diverged run) makes every number that it enters NaN, intervals included: it is neither dropped nor ranked. Who
wants it to count as a failure gives it a score, say that of a random policy.

axis: one or several, pooled; None: all; what is left of the shape of `scores` is that of the result. All raise InputError
where scores are empty or of another shape, have no such axis, or are of other tasks than those they are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # which loads its parts at their first use: `scipy.stats` takes half a second

from jaxrl.core.errors import InputError

RESAMPLES = 2000
FEWEST_SEEDS = 3  # from which an interval is shown: resamples of two seeds take three values only
BLOCK = 1 << 22  # scores resampled at once: 32 MiB of them and as much of indices, whatever the number of resamples

Axis = int | tuple[int, ...] | None


class Interval(NamedTuple):
    """Ends of a 95 % confidence interval; NaN where fewer than two runs, or a NaN score, leave it unknown."""

    low: float
    high: float


class Band(NamedTuple):
    """Pointwise ends of 95 % confidence intervals, float64 [T] each; NaN where an Interval's are."""

    low: np.ndarray
    high: np.ndarray


def mean(scores: npt.ArrayLike, axis: Axis = -1) -> np.ndarray:
    """The mean over `axis`, in the scores' unit."""
    return np.asarray(np.mean(_pooled(scores, axis), -1))


def iqm(scores: npt.ArrayLike, axis: Axis = -1) -> np.ndarray:
    """The interquartile mean, in the scores' unit: the mean of the middle half of the runs over `axis`.

    A quarter of the runs, rounded down, is cut at each end. Several axes are ordered together, as in section 4.3.
    """
    ordered = np.sort(_pooled(scores, axis), -1)
    count = ordered.shape[-1]
    middle = np.mean(ordered[..., count // 4 : count - count // 4], -1)
    # NaN is sorted to the end, where it would be cut as if it were the best run.
    return np.where(np.isnan(ordered[..., -1]), ordered[..., -1], middle)[()]


def optimality_gap(scores: npt.ArrayLike, gamma: float = 1.0, axis: Axis = -1) -> np.ndarray:
    """How far runs fall short of `gamma` on average, in the scores' unit: gamma - mean(min(score, gamma)).

    Less is better; what exceeds gamma does not make up for what falls short (section 4.3). gamma: 1 is human level, or the
    best known one, by the normalisation of the scores.
    """
    return np.asarray(gamma - np.mean(np.minimum(_pooled(scores, axis), gamma), -1))


def median(scores: npt.ArrayLike, axis: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """The median over tasks of the mean over a task's runs, in the scores' unit.

    scores: [..., tasks, runs]. axis: that of the tasks and that of the runs, in this order.
    Of an even number of tasks it is midway between the middle two; of one, that task's mean.
    """
    if not isinstance(axis, tuple) or len(axis) != 2:
        raise InputError(f"the median needs two axes, (tasks, runs), not axis={axis}")
    return np.median(np.mean(_axes_last(scores, axis), -1), -1)


def performance_profile(scores: npt.ArrayLike, thresholds: npt.ArrayLike) -> np.ndarray:
    """The fraction of runs that score above each threshold, every task of equal weight: float64 [T] in [0, 1].

    The run-score distribution of section 4.2. A score equal to a threshold is not above it. All NaN where a score is NaN.
    scores: [tasks, runs] or [runs]. thresholds: [T], in the scores' unit, in any order, none NaN.
    """
    return _profile(_matrix("scores", scores), _thresholds(thresholds))


def profile_band(scores: npt.ArrayLike, thresholds: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """The pointwise 95 % stratified bootstrap band of `performance_profile`: as `bootstrap_interval`, per threshold.

    Where no run, or every run, is above a threshold it has no width: no resample differs.
    """
    matrix, levels = _matrix("scores", scores), _thresholds(thresholds)
    return Band(*_bootstrap([matrix], lambda x: _profile(x, levels), levels.shape, resamples, seed))


def probability_of_improvement(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """P(X > Y) + P(X = Y) / 2 of a run of X and one of Y on the same task, averaged over tasks (section 4.3).

    Per task the Mann-Whitney U over the number of pairs. It says how often X is better, not by how much; a task's
    normalisation does not change it.

    x, y: [tasks, runs] or [runs], of the same tasks in the same order; their numbers of runs may differ.
    """
    return float(_improvement(*_pair(x, y)))


def improvement_interval(x: npt.ArrayLike, y: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The 95 % stratified bootstrap interval of `probability_of_improvement`: as `bootstrap_interval`.

    The runs of x and those of y are resampled independently. One that holds ½ says that neither is known to be better.
    """
    low, high = _bootstrap(_pair(x, y), _improvement, (), resamples, seed)
    return Interval(float(low), float(high))


def bootstrap_interval(
    scores: npt.ArrayLike, statistic: Callable[..., Any] = mean, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The 95 % stratified bootstrap interval of `statistic` (percentile method, section 4.1).

    The runs of each task are resampled among themselves, independently of other tasks'; tasks are not, so that it is the
    uncertainty over runs on these tasks. The draw is seeded: the same scores give the same interval.

    scores: [tasks, runs] or [runs]. statistic: called as `statistic(scores, axis=(-2, -1))` on [tasks, runs] and on
    [resamples, tasks, runs], it returns one number each: `mean`, `iqm`, `median`, `optimality_gap`, or
    `functools.partial(optimality_gap, gamma=0.5)`. Raises InputError too where it does not reduce both axes, or `resamples`
    is below 1.
    """
    low, high = _bootstrap([_matrix("scores", scores)], lambda x: statistic(x, axis=(-2, -1)), (), resamples, seed)
    return Interval(float(low), float(high))


def seed_interval(returns: npt.ArrayLike) -> Interval:
    """The 95 % interval of the mean return over seeds that may be shown: NaN for fewer than `FEWEST_SEEDS` seeds.

    returns: of each seed, [seeds]. Raises InputError as `bootstrap_interval`.
    """
    return bootstrap_interval(returns) if np.size(returns) >= FEWEST_SEEDS else Interval(np.nan, np.nan)


def _bootstrap(
    groups: Sequence[np.ndarray], statistic: Callable[..., Any], shape: tuple[int, ...], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5 % and 97.5 % quantiles, `shape` each, of `statistic(*groups)` over resamples of groups [tasks, runs]."""
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}")
    with np.errstate(invalid="ignore"):  # infinite scores: an end between infinities is NaN, as their difference is
        estimate = np.asarray(statistic(*groups))
        if np.isnan(estimate).any() or min(g.shape[1] for g in groups) < 2:
            return np.full(shape, np.nan), np.full(shape, np.nan)
        rng = np.random.default_rng(seed)
        block = max(1, BLOCK // sum(g.size for g in groups))
        counts = [min(block, resamples - done) for done in range(0, resamples, block)]
        drawn = [np.asarray(statistic(*(_resampled(rng, g, n) for g in groups))) for n in counts]
        if drawn[0].shape != (counts[0], *shape):
            raise InputError(
                f"the statistic must leave {(counts[0], *shape)} of {counts[0]} resamples, not {drawn[0].shape}"
            )
        low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    return low, high


def _resampled(rng: np.random.Generator, matrix: np.ndarray, count: int) -> np.ndarray:
    """`count` resamples with replacement of the runs of each task: [tasks, runs] -> [count, tasks, runs]."""
    tasks, runs = matrix.shape
    # Task by task, the order in which scipy.stats.bootstrap draws: the tests compare with it number by number.
    index = rng.integers(0, runs, (tasks, count, runs))
    return np.take_along_axis(matrix[:, None], index, -1).swapaxes(0, 1)


def _profile(x: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """[..., tasks, runs] -> [..., T]. One threshold at a time: a comparison with all of them would be T times the memory."""
    above = np.stack([np.mean(x > t, (-2, -1)) for t in thresholds], -1)
    return np.where(np.isnan(x).any((-2, -1))[..., None], np.nan, above)  # NaN > t is False: it would pass for a low score


def _improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., tasks, n], [..., tasks, m] -> [...]. By ranks: memory for n + m where all pairs would take n m."""
    n, m = x.shape[-1], y.shape[-1]
    ranks = scipy.stats.rankdata(np.concatenate([x, y], -1), axis=-1)[..., :n]  # ties share a rank; one NaN makes all NaN
    return np.asarray(np.mean((ranks.sum(-1) - n * (n + 1) / 2) / (n * m), -1))


def _numbers(name: str, values: npt.ArrayLike) -> np.ndarray:
    """Not empty and of a floating type; float32 stays so, for a summary prints its shortest digits."""
    try:
        array = np.asarray(values)
        array = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
    except (TypeError, ValueError):  # rows of different lengths, text
        raise InputError(f"{name} must be a table of numbers, every task with as many runs") from None
    if array.size == 0:
        raise InputError(f"{name} are empty: shape {array.shape}")
    return array


def _matrix(name: str, scores: npt.ArrayLike) -> np.ndarray:
    """float64 [tasks, runs]."""
    array = _numbers(name, scores)
    if array.ndim not in (1, 2):
        raise InputError(f"{name} must be [tasks, runs] or [runs], not of shape {array.shape}")
    return np.atleast_2d(array).astype(np.float64)


def _pair(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = _matrix("x", x), _matrix("y", y)
    if len(a) != len(b):
        raise InputError(f"x and y must be of the same tasks: x has {len(a)}, y has {len(b)}")
    return a, b


def _thresholds(values: npt.ArrayLike) -> np.ndarray:
    """float64 [T]."""
    array = _numbers("thresholds", values).astype(np.float64)
    if array.ndim != 1:
        raise InputError(f"thresholds must be [T], not of shape {array.shape}")
    if np.isnan(array).any():
        raise InputError(f"thresholds must not be NaN: number {int(np.isnan(array).argmax())} is")
    return array


def _axes_last(scores: npt.ArrayLike, axis: tuple[int, ...]) -> np.ndarray:
    """The scores with `axis`, in its order, at the end."""
    array = _numbers("scores", scores)
    try:
        return np.moveaxis(array, axis, range(-len(axis), 0))
    except ValueError as error:  # not that many axes, or one twice
        raise InputError(f"scores of shape {array.shape} have no axis={axis}: {error}") from None


def _pooled(scores: npt.ArrayLike, axis: Axis) -> np.ndarray:
    """The scores with all of `axis` as one axis, the last."""
    if axis is None:
        return _numbers("scores", scores).reshape(-1)
    axes = axis if isinstance(axis, tuple) else (axis,)
    last = _axes_last(scores, axes)
    return last.reshape(*last.shape[: last.ndim - len(axes)], -1)
