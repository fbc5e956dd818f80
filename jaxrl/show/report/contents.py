"""What a report shows, as plain values for page.js: curves, effects, members, profiles, policies, plan, time and memory.

Every number is finite or None.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl.core import stats
from jaxrl.devices import memory
from jaxrl.devices.layout import Layout
from jaxrl.experiment import search_space
from jaxrl.runs.metrics import plain
from jaxrl.show import plot, sweep_plot
from jaxrl.show.plot import Curve
from jaxrl.show.report import policies
from jaxrl.show.report.sources import Source
from jaxrl.sweeps.result import RunResult, ranked

LEVELS = 60  # thresholds of a performance profile
RESAMPLES = 500  # of its band
DIGITS = 6  # of a number in the page
COUNTS = ("iteration", "episodes", "diverged", "env_steps")  # metrics that are no curves


def of(sources: Sequence[Source]) -> dict[str, Any]:
    """The whole page, but for when it was written."""
    series = [one for number, source in enumerate(sources) for one in _series(number, source)]
    return {
        "sources": [_source(source) for source in sources],
        "series": series,
        "profiles": _profiles(sources, series),
        "effects": [e | {"source": number} for number, source in enumerate(sources) for e in _effects(source)],
        "members": [member for number, source in enumerate(sources) for member in _members(number, source)],
        "policies": [p | {"source": number} for number, source in enumerate(sources) for p in policies.of(source.result)],
    }


def _short(x: Any) -> Any:
    """Numbers to DIGITS digits, as `plain` otherwise."""
    x = np.asarray(x, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(x))))
        rounded = np.where((x == 0) | ~np.isfinite(x), x, np.round(x * scale) / scale)
    return plain(rounded)


def _source(source: Source) -> dict[str, Any]:
    """What is known of a directory as a whole."""
    plan, base = source.result.plan, source.result.plan.base
    summaries = [found.summary for found in source.result.waves]
    train, evaluations = (sum(s.get(name, 0.0) for s in summaries) for name in ("run_s", "eval_s"))
    return {
        "dir": str(source.directory),
        "kind": "run" if plan.alone else "sweep",
        "agent": base.agent,
        "env": base.env,
        "preset": base.preset,
        "programs": [] if plan.alone else [_program(source, i) for i in range(plan.programs)],
        "time": {"compile": round(source.result.compile_s, 3), "train": round(train, 3), "evaluate": round(evaluations, 3)},
        "steps_per_s": round(plan.env_steps / max(source.result.run_s, 1e-9)),
        "waves": [_wave(source, found) for found in source.result.waves],
        "memory_limit": memory.readable(plan.memory_limit) if plan.memory_limit else None,
        "commands": source.commands,
        "extended": plan.extended,
        **source.about,
    }


def _program(source: Source, number: int) -> dict[str, Any]:
    """A line of a sweep's plan."""
    plan, program = source.result.plan, source.result.plan.program_list[number]
    return {
        "program": number,
        "members": len(program.members),
        "waves": len([found for found in source.result.waves if found.wave.program == number]),
        "layout": _layout(program.compiled.layout) if program.bytes else None,
        "bytes": program.bytes,
        "memory": memory.readable(program.bytes) if program.bytes else None,
        "statics": plan.statics(program),
    }


def _layout(layout: Layout) -> str:
    return f"{layout.devices} × {layout.padded // layout.devices}"


def _wave(source: Source, found: RunResult) -> dict[str, Any]:
    peak, plan = found.summary.get("peak_bytes"), source.result.plan
    return {
        "name": "run" if plan.alone else found.wave.directory.name,
        "members": len(found.wave.members),
        "layout": _layout(found.wave.layout),
        "train": found.summary["run_s"],
        "evaluate": found.summary.get("eval_s", 0.0),
        "steps_per_s": found.summary["steps_per_s"],
        "bytes": peak,
        "memory": memory.readable(peak) if peak else None,
    }


def _label(source: Source, config: int) -> str:
    """What tells a configuration from the others of its source."""
    plan = source.result.plan
    return search_space.text(plan.configurations[config]) or f"{plan.base.agent} {source.directory.name}"


def _series(number: int, source: Source) -> list[dict[str, Any]]:
    """One for each configuration: how its metrics went, mean over seeds, the returns' with their band."""
    result, order = source.result, ranked(source.result.final_return)
    found = []
    for config in range(len(result.configs)):
        curve = sweep_plot.config_curve(result, config)
        metrics = {"episode_return": _banded(curve)}
        for name in sorted(set(result.metrics) - {*COUNTS, "episode_return"}):
            thin = _thinned(result.metrics[name][config, :, : sweep_plot.iterations(result, config)], curve)
            if not np.isnan(thin.returns).all():
                metrics[name] = _banded(thin) if name == "eval_return" else {"mean": _short(thin.returns.mean(0))}
        found.append(
            {
                "source": number,
                "config": config,
                "env": result.plan.base.env,
                "label": _label(source, config),
                "rank": order.index(config),
                "seeds": len(result.seeds),
                "final": _final(result.final_return[config]),
                "diverged": int(np.asarray(result.diverged)[config].sum()),
                "steps": curve.steps.tolist(),
                "seconds": _short(_seconds(source, config, curve.steps)),
                "metrics": metrics,
            }
        )
    return found


def _final(returns: np.ndarray) -> dict[str, Any]:
    """Mean, interquartile mean and interval of a configuration's final returns [S]."""
    low, high = stats.bootstrap_interval(returns)
    return {"mean": _short(returns.mean()), "iqm": _short(stats.iqm(returns)), "low": _short(low), "high": _short(high)}


def _banded(curve: Curve) -> dict[str, Any]:
    band = plot.band(curve)
    return {"mean": _short(plot.mean(curve)), "low": _short(band.low), "high": _short(band.high)}


def _thinned(values: np.ndarray, like: Curve) -> Curve:
    """Another metric [S, I] at the points of a learning curve: the mean of the numbers between two of them."""
    bins = np.array_split(values, len(like.steps), axis=1)
    known = [np.isfinite(part) for part in bins]
    with np.errstate(invalid="ignore"):
        means = [np.where(k, x, 0).sum(1) / k.sum(1) for x, k in zip(bins, known, strict=True)]
    return like._replace(returns=np.stack(means, 1))


def _seconds(source: Source, config: int, steps: np.ndarray) -> np.ndarray:
    """Seconds of training at `steps` of a seed: of the wave that trained it, with whatever ran beside; mean over waves."""
    pairs = zip(source.result.waves, source.clocks, strict=True)
    clocks = [clock for found, clock in pairs if any((m.config or 0) == config for m in found.wave.members)]
    return np.mean([np.interp(steps, *clock) for clock in clocks], 0)


def _effects(source: Source) -> list[dict[str, Any]]:
    """The panels of a sweep's varied settings."""
    result = source.result
    if len(result.configs) < 2:
        return []
    found = []
    for name in sweep_plot.varied(result.configs):
        e = sweep_plot.effect(name, [config[name] for config in result.configs], np.asarray(result.final_return, float))
        numbers = {key: _short(getattr(e, key)) for key in ("x", "mean", "low", "high", "each_x", "each_y")}
        found.append({"name": name, "scale": e.scale, "joined": e.joined, "labels": list(e.labels), **numbers})
    return found


def _members(number: int, source: Source) -> list[dict[str, Any]]:
    """Every member: its final return, and the interval over the episodes that it was evaluated in."""
    result, intervals = source.result, dict[tuple[int, int], list[float | None]]()
    for wave_result in result.waves:
        members = wave_result.wave.members
        ends = wave_result.summary.get("per_seed_interval") or [[None, None]] * len(members)
        intervals |= {(m.config or 0, m.seed): x for m, x in zip(members, ends, strict=True)}
    found = []
    for c, (s, seed) in itertools.product(range(len(result.configs)), enumerate(result.seeds)):
        low, high = intervals[c, seed]
        diverged = bool(np.asarray(result.diverged)[c, s])
        final = _short(result.final_return[c, s])
        found.append(
            {"source": number, "config": c, "seed": seed, "final": final, "low": low, "high": high, "diverged": diverged}
        )
    return found


def _profiles(sources: Sequence[Source], series: list[dict[str, Any]]) -> dict[str, Any]:
    """By environment the fraction of seeds that end above each return: thresholds, and a line for each of the series."""
    found: dict[str, Any] = {}
    for env in dict.fromkeys(one["env"] for one in series):
        here = [i for i, one in enumerate(series) if one["env"] == env]
        scores = {i: sources[series[i]["source"]].result.final_return[series[i]["config"]] for i in here}
        known = np.concatenate(list(scores.values()))
        known = known[np.isfinite(known)]
        if not known.size:
            continue
        margin = 0.02 * np.ptp(known) or 1.0
        levels = np.linspace(known.min() - margin, known.max() + margin, LEVELS)
        lines = {}
        for i, x in scores.items():
            band = stats.profile_band(x, levels, resamples=RESAMPLES)
            fractions = stats.performance_profile(x, levels)
            lines[str(i)] = {"mean": _short(fractions), "low": _short(band.low), "high": _short(band.high)}
        found[env] = {"levels": _short(levels), "lines": lines}
    return found
