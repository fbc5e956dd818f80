"""Pictures of a sweep: learning curves of its configurations, and the effect of each setting on the final return.

What is drawn is computed apart from the drawing: `curve_of`, `effect`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrl.core import stats
from jaxrl.experiment import search_space
from jaxrl.show import plot
from jaxrl.show.configurations import Configuration, by_return
from jaxrl.show.plot import Curve

COLOURED = 8  # configurations of a picture in which each has a colour ...
BEST = 5  # ... and how many have one where there are more
LOG_SPAN = 20  # highest over lowest value, from which on an axis is logarithmic
LABELLED = 8  # values that have a tick each
VALUES = 12  # numbers that have a mean each; of more, bins have one
BINS = 8  # at most, of three values each at least
ROOM = 34  # characters that fit under a panel
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#333333")  # Okabe & Ito, mostly
LOST = "return no number: not in the means"
GREY, INK, STAR = "#9aa5b1", "#0072b2", "#d55e00"


class Effect(NamedTuple):
    """One setting's panel: V values (or bins of them) of C configurations.

    scale: of x; "even": x counts the values. joined: whether x are numbers, so that a line between them means something.
    binned: whether each is a bin of them. labels: of the values, () where the axis has ticks of its own.
    x, mean, low, high: float64 [V]: the mean final return of all members with that value, and its 95 % interval over seeds.
    Configurations with a return that is no finite number are left out of these; NaN where none is left.
    each_x, each_y: float64 [C]: every configuration's own mean; each_y is NaN for those left out.
    """

    name: str
    scale: Literal["linear", "log", "even"]
    joined: bool
    binned: bool
    labels: tuple[str, ...]
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    each_x: np.ndarray
    each_y: np.ndarray


def curve_of(found: Configuration) -> Curve:
    """The learning curve of a configuration, labelled with its settings, with its evaluations where there were any."""
    metrics = found.metrics
    steps, evaluated = metrics["env_steps"][0], metrics.get("eval_return")
    curve = plot.thinned(search_space.text(found.setting), steps, metrics["episode_return"], metrics["episodes"])
    if evaluated is None or not (at := np.isfinite(evaluated).any(0)).any():
        return curve
    return curve._replace(evaluations=Curve("", steps[at], evaluated[:, at].astype(float)))


def best_curve(found: Sequence[Configuration], label: str) -> Curve:
    """The learning curve of the best configuration; where there are several, its label tells the settings."""
    best = found[by_return(found)[0]]
    curve, many = curve_of(best), len(found) > 1
    return curve._replace(label=f"{label}, best of {len(found)}: {curve.label}{_note([best])}" if many else label)


def varied(configs: Sequence[search_space.Setting]) -> list[str]:
    """The settings of which configurations differ; all, where none does."""
    names = list(configs[0])
    return [n for n in names if any(c[n] != configs[0][n] for c in configs)] or names


def effect(name: str, values: Sequence[Any], returns: np.ndarray) -> Effect:
    """What a panel shows. values: the setting's, one a configuration; returns: final returns [C, S]."""
    values = [tuple(v) if isinstance(v, list) else v for v in values]
    amounts = all(_is_amount(v) for v in values)
    distinct = sorted(set(values)) if amounts else list(dict.fromkeys(values))
    scale = _scale(distinct) if amounts else "even"
    binned = amounts and len(distinct) > VALUES
    place = {v: float(i) if scale == "even" else float(v) for i, v in enumerate(distinct)}
    each_x = np.array([place[v] for v in values])
    groups = [np.array([place[v]]) for v in distinct]
    if binned:
        groups = np.array_split([place[v] for v in distinct], min(BINS, len(distinct) // 3))
    rows = [np.flatnonzero(np.isin(each_x, group)) for group in groups]
    middle = [_middle(each_x[r], scale) for r in rows] if binned else [group[0] for group in groups]
    mean, low, high = np.array([_mean_and_interval(returns[r]) for r in rows]).T
    labels = tuple(map(search_space.value_text, distinct)) if scale == "even" or len(distinct) <= LABELLED else ()
    return Effect(name, scale, amounts, binned, labels, np.array(middle), mean, low, high, each_x, _means(returns))


def _is_amount(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _scale(distinct: list[Any]) -> Literal["linear", "log", "even"]:
    """Of sorted numbers. Few of them that an axis would bunch (0.9, 0.99, 0.999) are spaced evenly."""
    log = distinct[0] > 0 and distinct[-1] / distinct[0] > LOG_SPAN
    at = np.log(distinct) if log else np.array(distinct, float)
    if 2 < len(at) <= LABELLED and np.diff(at).min() < 0.5 * (at[-1] - at[0]) / (len(at) - 1):
        return "even"
    return "log" if log else "linear"


def _middle(x: np.ndarray, scale: str) -> float:
    return float(np.exp(np.log(x).mean()) if scale == "log" else x.mean())


def _means(returns: np.ndarray) -> np.ndarray:
    """[C, S] -> [C], NaN where one is no finite number."""
    return np.where(np.isfinite(returns).all(1, keepdims=True), returns, np.nan).mean(1)


def _mean_and_interval(returns: np.ndarray) -> tuple[float, float, float]:
    """Of the configurations [C, S] whose returns are all finite numbers; no interval from too few seeds."""
    known = returns[np.isfinite(returns).all(1)]
    if not known.size or returns.shape[1] < stats.FEWEST_SEEDS:
        return (float(known.mean()) if known.size else np.nan, np.nan, np.nan)
    return float(known.mean()), *stats.bootstrap_interval(known)


def _note(configurations: Sequence[Configuration]) -> str:
    """What a legend adds for members that diverged."""
    count = sum(int(found.diverged.sum()) for found in configurations)
    return f" ({count} diverged)" if count else ""


def curves(configurations: Sequence[Configuration], title: str, out: Path) -> None:
    """Draw the learning curves into a PNG, best configurations first; of many, all but the best are thin and grey."""
    fig, ax = plot.pyplot().subplots(figsize=(7.2, 4.1), layout="constrained")
    order = [configurations[i] for i in by_return(configurations)]
    shown = order if len(order) <= COLOURED else order[:BEST]
    others = order[len(shown) :]
    for rank, found in enumerate(shown):
        c = curve_of(found)
        over = 3 + 2 * (len(shown) - rank)
        plot.draw(ax, c, shade=0.2, label=c.label + _note([found]), color=COLOURS[rank], linewidth=1.8, zorder=over)
    label = f"{len(others)} others{_note(others)}"
    for i, c in enumerate(map(curve_of, others)):
        style = {"color": GREY, "linewidth": 0.7, "alpha": max(0.25, 0.8 - 0.01 * len(others)), "zorder": 2}
        ax.plot(c.steps, plot.mean(c), label=label if i == 0 else None, **style)
    plot.frame(ax)
    ax.set_title(_title(configurations, title), loc="left", fontsize=11)
    seeds = max(len(found.seeds) for found in configurations)
    plot.legend_below(fig, ax, f"best final return first; {plot.over_seeds(seeds)}")
    plot.save(fig, out)


def effects(configurations: Sequence[Configuration], title: str, out: Path) -> None:
    """Draw into a PNG how the final return depends on each setting, a panel each. All have the same number of seeds."""
    shown, best = effects_of(configurations), by_return(configurations)[0]
    fig, panels = plot.panels(len(shown), _title(configurations, title))
    for ax, e in zip(panels, shown, strict=True):
        _panel(ax, e, best)
    for ax in panels:
        ax.set_ylabel("final return" if ax.get_subplotspec().is_first_col() else "")
    plot.finish(fig, panels, out)


def effects_of(configurations: Sequence[Configuration]) -> list[Effect]:
    """The panel of each setting that varies."""
    settings = [found.setting for found in configurations]
    returns = np.array([found.final_return for found in configurations], float)
    return [effect(name, [setting[name] for setting in settings], returns) for name in varied(settings)]


def _panel(ax: Any, e: Effect, best: int) -> None:
    """Every configuration a dot, the means with their intervals, and the best configuration a star."""
    known, sure = ~np.isnan(e.each_y), ~np.isnan(e.low)
    dots = {"linestyle": "", "alpha": 0.5, "color": GREY, "markersize": 4, "markeredgewidth": 0}
    if len(e.x) < len(known):  # else every dot would lie under its mean
        ax.plot(e.each_x[known], e.each_y[known], "o", **dots, label="one configuration")
    line = {"linestyle": "-" if e.joined else "", "linewidth": 1.3, "color": INK, "markersize": 5}
    ax.plot(e.x, e.mean, "o", **line, label=plot.over_seeds(stats.FEWEST_SEEDS) if sure.any() else "mean")
    if e.binned:
        ax.fill_between(e.x, e.low, e.high, color=INK, alpha=0.2, linewidth=0)
    else:
        ax.vlines(e.x[sure], e.low[sure], e.high[sure], color=INK, linewidth=2)
    if known[best]:
        star = {"color": STAR, "markersize": 11, "markeredgecolor": "white", "linestyle": ""}
        ax.plot(e.each_x[best], e.each_y[best], "*", label="best configuration", **star)
    if not known.all():
        foot = {"transform": ax.get_xaxis_transform(), "color": STAR, "linestyle": ""}
        ax.plot(e.each_x[~known], np.full((~known).sum(), 0.03), "x", markersize=5, label=LOST, **foot)
    x_axis(ax, e)


def x_axis(ax: Any, e: Effect) -> None:
    """Scale, ticks and their labels, slanted where they would touch."""
    ax.set_xlabel(e.name)
    if e.scale == "log":
        ax.set_xscale("log")
    if not e.labels:
        return
    at = np.log(e.x) if e.scale == "log" else e.x
    margin = 0.15 * np.ptp(at) if e.scale != "even" and len(at) > 1 else 0.5
    lengths = np.array([len(label) for label in e.labels])
    gaps = np.diff(at) / (at[-1] - at[0] + 2 * margin)
    touch = (0.5 * (lengths[1:] + lengths[:-1]) + 1 > ROOM * gaps).any()
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if touch else {}
    ax.set_xticks(e.x, e.labels, **slanted)
    ax.minorticks_off()
    ends = at[0] - margin, at[-1] + margin
    ax.set_xlim(np.exp(ends) if e.scale == "log" else ends)


def _title(configurations: Sequence[Configuration], title: str) -> str:
    count, seeds = len(configurations), len(configurations[0].seeds)
    return f"{title}: {count} configuration{'s' * (count > 1)} × {seeds} seed{'s' * (seeds > 1)}"
