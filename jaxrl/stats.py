"""Statistics over runs: what a paper may state (Agarwal et al. 2021), on scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats

RESAMPLES = 2000


class Interval(NamedTuple):
    """Ends of a 95 % confidence interval; NaN where fewer than two runs leave it unknown."""

    low: float
    high: float


def mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean over `axis`."""
    return np.mean(scores, axis)


def iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """The interquartile mean: the mean of the middle half, a quarter of the runs (rounded down) cut at each end."""
    return scipy.stats.trim_mean(scores, 0.25, axis)


def bootstrap_interval(
    scores: np.ndarray | list, statistic: Callable = mean, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The 95 % stratified bootstrap interval of `statistic` (percentile method).

    scores: [runs], or [tasks, runs]: then runs are resampled within each task, and the statistic is taken over all of
    them pooled. The draw is seeded, so that the same scores give the same interval.
    """
    tasks = np.atleast_2d(np.asarray(scores, np.float64))
    if tasks.shape[1] < 2:
        return Interval(np.nan, np.nan)

    def pooled(*resampled: np.ndarray, axis: int) -> np.ndarray:
        return statistic(np.concatenate(resampled, axis), axis)

    result = scipy.stats.bootstrap(
        tuple(tasks),
        pooled,
        n_resamples=resamples,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(float(low), float(high))
