"""Pictures of a tuning: the trials of a search, or the rounds of a population.

What is drawn is computed apart from the drawing: `values_of`, `best_so_far`, `limits`; `lineages`, `branches`, `in_use`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core.numbers import readable
from jaxrl.experiment import search_space
from jaxrl.experiment.search_space import Axis, Span
from jaxrl.show import plot, sweep_plot
from jaxrl.show.sweep_plot import GREY, INK, STAR
from jaxrl.tuning import pbt
from jaxrl.tuning.pbt import Round
from jaxrl.tuning.population import PopulationResult

FOOT = 0.035  # where, of an axis' height, it marks what it leaves out
WIDE = 2  # columns of the first panel, which counts in whole numbers
Trials = Sequence[Mapping[str, Any]]  # as in `TuneResult.trials`


def values_of(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """What each trial reached, float64 [T], NaN where it failed; whether it is complete, bool [T], or was pruned there."""
    value = _finite([t["value"] if t["state"] in ("complete", "pruned") else None for t in trials])
    return value, np.array([t["state"] == "complete" for t in trials], bool) & ~np.isnan(value)


def best_so_far(value: np.ndarray, complete: np.ndarray) -> np.ndarray:
    """The highest value of the complete trials up to each, float64 [T]; NaN before the first."""
    return np.fmax.accumulate(np.where(complete, value, np.nan))


def limits(values: np.ndarray, kept: Sequence[float] = ()) -> tuple[float, tuple[float, float]]:
    """The lowest number that an axis of values shows, and the axis' ends. What is not finite does not count.

    Up to a quarter of the distinct values is left out below: those further below the rest than twice its height. `kept`,
    some of the values, never are. The ends leave room for marks at the foot.
    """
    distinct = np.unique(values[np.isfinite(values)]) if np.isfinite(values).any() else np.array([0.0, 1.0])
    top, rest = distinct[-1], np.quantile(distinct, 0.25, method="higher")
    floor = distinct[distinct >= rest - 2 * (top - rest)][0] if distinct.size > 3 else distinct[0]
    floor = float(min(floor, *(x for x in kept if np.isfinite(x)), top))
    height = float(top - floor) or abs(floor) or 1.0
    return floor, (floor - 0.1 * height, float(top) + 0.07 * height)


def lineages(rounds: Round) -> np.ndarray:
    """Which member each final member was during each round, int [R, P]. Fields of rounds: [R, P]."""
    return np.stack([pbt.lineage(rounds, member) for member in range(rounds.parent.shape[1])], 1)


def branches(rounds: Round, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of one line along every way from a member to who goes on from it in the next round, broken by NaN.

    values: [R, P], of each member in each round; rounds count from 1. Each float64 [(R - 1) P 3].
    """
    start, end = np.take_along_axis(values, np.asarray(rounds.parent), 1)[:-1], values[1:]
    at, gap = np.broadcast_to(np.arange(1.0, len(values))[:, None], end.shape), np.full(end.shape, np.nan)
    return np.stack([at, at + 1, gap], -1).ravel(), np.stack([start, end, gap], -1).ravel()


def in_use(rounds: Round, name: str) -> np.ndarray:
    """A hyper-parameter during each round, float64 [R, P]. NaN in the first for those replaced after it: it was not kept."""
    after, parent = np.asarray(rounds.hparams[name], float), np.asarray(rounds.parent)
    first = np.where(parent[0] == np.arange(parent.shape[1]), after[0], np.nan)
    return np.concatenate([first[None], after[:-1]])


def _finite(values: Any) -> np.ndarray:
    """float64, NaN for what is no finite number."""
    return np.where(np.isfinite(array := np.asarray(values, float)), array, np.nan)


def trials(
    trials: Trials, axes: Mapping[str, Axis], before: float | None, out: Path, title: str = "", after: float | None = None
) -> None:
    """Draw into a PNG the trials' values, in order and over each varied setting.

    before, after: the return on fresh seeds of the setting that tuning began from, and of the best.
    """
    number, (value, complete) = np.array([t["number"] for t in trials], int), values_of(trials)
    names = [name for name, axis in axes.items() if isinstance(axis, Span) or len(axis.values) > 1] or list(axes)
    fig, panels = plot.panels(len(names), title, WIDE)
    floor, ends = limits(_finite([*value, before, after]))
    style = {"where": "post", "color": STAR, "linewidth": 1.3, "zorder": 2}
    panels[0].step(number, best_so_far(value, complete), label="best so far", **style)
    panels[0].set(xlabel="trial", xlim=(-0.9, len(trials) - 0.1), ylabel="value: greedy return", ylim=ends)
    places = [_setting_axis(ax, n, axes[n], trials) for n, ax in zip(names, panels[1:], strict=True)]
    for ax, x in zip(panels, [number, *places], strict=True):
        _points(ax, x, value, complete, floor)
        for found, what, color in ((before, "before tuning", "#333333"), (after, "the best", STAR)):
            if found is not None and np.isfinite(found):
                label = f"{what}, on fresh seeds: {readable(found, before, after)}" + " (below the axis)" * (found < floor)
                ax.axhline(found, color=color, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1.5, label=label)
    plot.finish(fig, panels[:1], out)


def _points(ax: Any, x: np.ndarray, value: np.ndarray, complete: np.ndarray, floor: float) -> None:
    """Each trial at x [T] (NaN: nowhere), the later ones darker."""
    shown, order, size = value >= floor, np.arange(len(x)) / max(len(x), 2), float(np.clip(2500 / max(len(x), 1), 8, 34))
    if (here := ~complete & shown).any():
        ax.plot(x[here], value[here], "o", color=GREY, alpha=0.7, ms=0.6 * size**0.5, mew=0, label="pruned", zorder=2)
    if (here := complete & shown).any():
        style = {"cmap": "Blues", "vmin": -0.7, "vmax": 1, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
        ax.scatter(x[here], value[here], size, order[here], label="complete (darker: later)", **style)
    _foot(ax, x[value < floor], "v", INK, "below the axis")
    _foot(ax, x[np.isnan(value)], "x", STAR, "failed: no value")
    if complete.any():
        best, style = np.argmax(np.where(complete, value, -np.inf)), {"color": STAR, "ms": 14, "mec": "white", "zorder": 5}
        ax.plot(x[best], value[best], "*", linestyle="", label="best", **style)


def _setting_axis(ax: Any, name: str, axis: Axis, trials: Trials) -> np.ndarray:
    """Make the axis of a setting; gives where on it each trial lies, float64 [T], NaN for a trial without the setting."""
    values = [trial["setting"].get(name) for trial in trials]
    if isinstance(axis, Span):
        _span_axis(ax, "x", name, axis)
        return np.array([np.nan if v is None else v for v in values], float)
    effect = sweep_plot.effect(name, axis.values, np.zeros((len(axis.values), 1)))
    sweep_plot.x_axis(ax, effect)
    place = dict(zip(map(search_space.value_text, axis.values), effect.each_x, strict=True))
    # Trials of one value would lie over each other: where only the order of values means something, they lie side by side.
    aside = 0.4 * (np.arange(len(values)) * 0.618 % 1 - 0.5) * (effect.scale == "even")
    return aside + np.array([place.get(search_space.value_text(v), np.nan) for v in values])


def population(result: PopulationResult, spans: Mapping[str, Axis], out: Path, title: str = "") -> None:
    """Draw into a PNG the scores and hyper-parameters of a population by round: its branches, and the best one's lineage."""
    who, score = lineages(result.rounds), _finite(result.rounds.score)
    fig, panels = plot.panels(len(spans), title, WIDE, share="x")
    best = score[np.arange(len(who)), who[:, result.best_member]]
    floor, ends = limits(score, best)
    _branches(panels[0], result.rounds, score, who, best)
    _foot(panels[0], np.flatnonzero((score < floor).any(1)) + 1, "v", GREY, "below the axis")
    panels[0].set(xlim=(0.6, len(who) + 0.4), ylabel="score: return in the round", ylim=ends)
    for (name, span), ax in zip(spans.items(), panels[1:], strict=True):
        _span_axis(ax, "y", name, span)
        _branches(ax, result.rounds, in_use(result.rounds, name), who, np.array(result.schedule[name]))
    plot.finish(fig, panels[:1], out)


def _branches(ax: Any, rounds: Round, values: np.ndarray, who: np.ndarray, best: np.ndarray) -> None:
    """Every member's values [R, P] by round; what the final members come from, by `who`, is darker, and `best` [R] bold."""
    at, pale = np.arange(1, len(values) + 1), {"color": GREY, "alpha": 0.5, "zorder": 2}
    ax.plot(np.repeat(at, values.shape[1]), values.ravel(), ".", ms=4, mew=0, **pale)
    ax.plot(*branches(rounds, values), linewidth=0.7, label="replaced on the way", **pale)
    lines = ax.plot(at, np.take_along_axis(values, who, 1), color=INK, alpha=0.45, linewidth=0.9, zorder=3)
    lines[0].set_label("lineages of the final members")
    ax.plot(at, best, color=STAR, linewidth=2.4, marker="o", ms=3, zorder=4, label="lineage of the best")
    ax.set_xlabel("round")


def _foot(ax: Any, x: np.ndarray, marker: str, color: str, label: str) -> None:
    """Marks at the bottom, at x [N] (NaN: none), for what has no place above it."""
    if (x := x[~np.isnan(x)]).size:
        style = {"linestyle": "", "clip_on": False, "zorder": 4, "transform": ax.get_xaxis_transform()}
        ax.plot(x, np.full(x.size, FOOT), marker, color=color, markersize=5, label=label, **style)


def _span_axis(ax: Any, which: str, name: str, span: Axis) -> None:
    """Label, scale and ticks of the axis of a range, whose ends are marked. which: "x" or "y"."""
    from matplotlib.ticker import LogLocator, NullLocator

    assert isinstance(span, Span)
    ax.set(**{f"{which}label": name, f"{which}scale": "log" if span.log else "linear"})
    along, across = [span.low, span.low, np.nan, span.high, span.high], [0, 1, np.nan, 0, 1]
    style = {"color": GREY, "linewidth": 0.8, "linestyle": ":", "transform": getattr(ax, f"get_{which}axis_transform")()}
    ax.plot(*((along, across) if which == "x" else (across, along)), **style)
    if span.log and span.high < 100 * span.low:  # powers of ten would be too few ticks
        axis = getattr(ax, f"{which}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span.high > 10 * span.low else (1, 2, 3, 4, 6)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
