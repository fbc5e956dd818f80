"""Learning curves: mean over seeds with a 95 % bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl import metrics, rundir, stats
from jaxrl.errors import InputError

POINTS = 100  # of a curve; iterations between two are averaged


class Curve(NamedTuple):
    """steps: environment steps [P]. returns: mean return of the episodes ended around each, float64 [seeds, P]."""

    label: str
    steps: np.ndarray
    returns: np.ndarray


def read_curve(directory: Path) -> Curve:
    """The learning curve of a run directory. Raises ValueError where it is none, or has no row yet."""
    config = rundir.read_config(directory)
    path = directory / rundir.METRICS
    rows = metrics.read(path) if path.is_file() else []
    if not rows:
        raise InputError(f"{directory} has no metrics yet")
    seeds = [[r for r in rows if r["seed"] == s] for s in range(config["seed"], config["seed"] + config["seeds"])]
    length = min(len(s) for s in seeds)
    label = f"{config['agent']} {config['env']}"
    steps = np.array([r["env_steps"] for r in seeds[0][:length]])
    returns = np.array([[_number(r["episode_return"]) for r in s[:length]] for s in seeds])
    episodes = np.array([[r["episodes"] for r in s[:length]] for s in seeds])
    bins = np.array_split(np.arange(length), min(POINTS, length))
    return Curve(label, steps[[b[-1] for b in bins]], np.stack([_binned(returns[:, b], episodes[:, b]) for b in bins], 1))


def _number(x: float | None) -> float:
    return np.nan if x is None else x


def _binned(returns: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """The mean over all episodes of a bin: [seeds, iterations] -> [seeds], NaN where none ended."""
    count = episodes.sum(1)
    total = np.where(episodes > 0, returns * episodes, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _filled(returns: np.ndarray) -> np.ndarray:
    """Bins in which no episode ended take the last one's value (or the first value to come)."""
    filled = returns.copy()
    for row in filled:
        known = np.flatnonzero(~np.isnan(row))
        if known.size:
            at = np.searchsorted(known, np.arange(row.size), side="right") - 1
            row[:] = row[known[np.maximum(at, 0)]]
    return filled


def curve(directories: Sequence[Path], out: Path) -> None:
    """Draw the learning curves of some run directories into one PNG. Raises ValueError."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = [read_curve(d) for d in directories]
    fig, ax = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    names = [
        c.label if len({c.label for c in curves}) == len(curves) else str(d)
        for c, d in zip(curves, directories, strict=True)
    ]
    for name, c in zip(names, curves, strict=True):
        returns = _filled(c.returns)
        seeds = len(returns)
        (line,) = ax.plot(c.steps, returns.mean(0), label=f"{name} ({seeds} seed{'s' if seeds > 1 else ''})", linewidth=1.8)
        if seeds > 1:
            bounds = np.array([stats.bootstrap_interval(column, resamples=500) for column in returns.T])
            ax.fill_between(c.steps, bounds[:, 0], bounds[:, 1], alpha=0.25, color=line.get_color(), linewidth=0)
    ax.set(xlabel="environment steps of a seed", ylabel="episode return in training", xlim=(0, None))
    ax.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter())
    ax.grid(alpha=0.3)
    ax.legend(loc="best", frameon=False, title="mean and 95 % interval over seeds")
    fig.savefig(out, dpi=130)
    plt.close(fig)
