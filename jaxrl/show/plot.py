"""Learning curves: mean over seeds, with a 95 % bootstrap interval where there are three or more."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jaxrl.core import stats

POINTS = 100  # of a curve; iterations between two are averaged
INSIDE = 48  # longest label that finds room among the curves ...
BESIDE = 38  # ... and, below them, beside another one
WRAP = 86  # characters of a line below them
COLUMNS = 4  # of panels


class Curve(NamedTuple):
    """steps: environment steps [P]. returns: mean return of the episodes ended around each, float64 [seeds, P].

    evaluations: of greedy policies, where there were any, as a curve.
    """

    label: str
    steps: np.ndarray
    returns: np.ndarray
    evaluations: Curve | None = None


def thinned(label: str, steps: np.ndarray, returns: np.ndarray, episodes: np.ndarray) -> Curve:
    """A curve of at most POINTS points. steps: [I] of iterations; returns (NaN without an episode), episodes: [seeds, I]."""
    bins = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return Curve(label, steps[[b[-1] for b in bins]], np.stack([_binned(returns[:, b], episodes[:, b]) for b in bins], 1))


def _binned(returns: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """The mean over all episodes of a bin: [seeds, iterations] -> [seeds], NaN where none ended."""
    count = episodes.sum(1)
    with np.errstate(invalid="ignore"):  # infinite returns
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


def mean(c: Curve) -> np.ndarray:
    """The mean over seeds, float64 [P], as it is drawn: no gap but where a seed ended no episode at all."""
    with np.errstate(invalid="ignore"):  # seeds at both infinities
        return _filled(c.returns).mean(0)


def band(c: Curve) -> stats.Band:
    """The 95 % bootstrap band of `mean` over seeds, each [P]; NaN where an interval needs more seeds."""
    if len(c.returns) < stats.FEWEST_SEEDS:
        return stats.Band(*np.full((2, len(c.steps)), np.nan))
    return stats.Band(*np.array([stats.bootstrap_interval(x, resamples=500) for x in _filled(c.returns).T]).T)


def over_seeds(seeds: int) -> str:
    """What a mean over so many seeds is drawn with."""
    if seeds < stats.FEWEST_SEEDS:
        return "mean over seeds" if seeds > 1 else "one seed"
    return "mean and 95 % interval over seeds"


def compare(curves: Sequence[Curve], out: Path, title: str = "") -> None:
    """Draw curves into one PNG, training as a line and greedy evaluations as dots on a dashed one."""
    fig, ax = pyplot().subplots(figsize=(7.2, 4.2), layout="constrained")
    for c in curves:
        seeds = len(c.returns)
        colour = draw(ax, c, label=f"{c.label} ({seeds} seed{'s' * (seeds > 1)})", linewidth=1.8)
        if c.evaluations:
            draw(ax, c.evaluations, shade=0.12, color=colour, linewidth=1.2, linestyle="--", marker="o", markersize=4)
    frame(ax)
    ax.set_title(title, loc="left", fontsize=11)
    note = over_seeds(max(len(c.returns) for c in curves))
    if any(c.evaluations for c in curves):
        note += "; dashed: greedy evaluations"
        ax.set_ylabel("episode return")
    if max(len(label) for label in ax.get_legend_handles_labels()[1]) > INSIDE:
        legend_below(fig, ax, note)
    else:
        ax.legend(loc="best", frameon=False, title=note)
    save(fig, out)


def pyplot() -> Any:
    """matplotlib.pyplot, drawing into files; imported only by who draws."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def draw(ax: Any, c: Curve, shade: float = 0.25, **style: Any) -> Any:
    """A curve's mean, and its band where there are seeds enough; gives its colour. shade: opacity of the band."""
    (line,) = ax.plot(c.steps, mean(c), **style)
    if len(c.returns) >= stats.FEWEST_SEEDS:
        ends, below = band(c), line.get_zorder() - 1
        ax.fill_between(c.steps, ends.low, ends.high, alpha=shade, color=line.get_color(), linewidth=0, zorder=below)
    return line.get_color()


def frame(ax: Any) -> None:
    """Axes of learning curves: what they show, and a grid."""
    from matplotlib.ticker import EngFormatter

    ax.set(xlabel="environment steps of a seed", ylabel="episode return in training", xlim=(0, None))
    ax.xaxis.set_major_formatter(EngFormatter())
    ax.grid(alpha=0.3)


def legend_below(fig: Any, ax: Any, title: str) -> None:
    """A legend under the axes, for labels too long to lie in them; the figure grows by its height."""
    handles, labels = ax.get_legend_handles_labels()
    columns = 2 if len(labels) > 3 and max(map(len, labels)) <= BESIDE else 1
    wrapped = [textwrap.fill(x, WRAP, subsequent_indent="    ", break_on_hyphens=False) for x in labels]
    lines = -(-sum(x.count("\n") + 1 for x in wrapped) // columns)
    fig.set_figheight(fig.get_figheight() + 0.2 * lines)
    place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    legend = fig.legend(handles, wrapped, fontsize=9, title=title, title_fontsize=9, **place)
    for handle in legend.legend_handles:  # thin and pale lines are hard to see in a legend
        handle.set(linewidth=1.8, alpha=1)


def panels(count: int, title: str, wide: int = 1, share: str = "y") -> tuple[Any, list[Any]]:
    """A figure of `count` panels, and before them a `wide` one where that is more than one column.

    share: the axis that they share, "x" or "y".
    """
    cells = count + (wide if wide > 1 else 0)
    rows = -(-cells // COLUMNS)
    columns = -(-cells // rows)
    fig = pyplot().figure(figsize=(max(3.2 * columns, 4.6) + 0.4, 3.0 * rows + 0.7), layout="constrained")
    grid = fig.add_gridspec(rows, columns)
    axes = [fig.add_subplot(grid[0, :wide])]
    if wide > 1:
        axes[0].xaxis.get_major_locator().set_params(integer=True)
    for cell in range(wide, cells):
        axes.append(fig.add_subplot(grid[divmod(cell, columns)], **{f"share{share}": axes[0]}))
        axes[-1].tick_params(labelleft=share == "x" or cell % columns == 0)
    fig.suptitle(title, fontsize=11, x=0.01, ha="left")
    return fig, axes


def finish(fig: Any, axes: Sequence[Any], out: Path) -> None:
    """Grids, a legend of what these axes show, below them, and the file."""
    for ax in fig.axes:
        ax.grid(alpha=0.3)
    found: dict[str, Any] = {}
    for ax in axes:
        found |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    beside = max(1, round(fig.get_figwidth() / 2.4))
    fig.legend(found.values(), found.keys(), fontsize=9, frameon=False, ncols=beside, loc="outside lower center")
    save(fig, out)


def save(fig: Any, out: Path | IO[bytes]) -> None:
    """Write a figure as PNG and forget it."""
    fig.savefig(out, dpi=130)
    pyplot().close(fig)
