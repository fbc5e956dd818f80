"""What a report shows, as plain values for page.js: curves, effects, members, profiles, policies, plan, time and memory.

Every number is finite or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl.core import stats
from jaxrl.devices import memory
from jaxrl.devices.layout import Layout
from jaxrl.experiment import presets
from jaxrl.experiment.experiment import Experiment
from jaxrl.runs.metrics import plain
from jaxrl.show import labels, plot, sweep_plot
from jaxrl.show.configurations import Configuration
from jaxrl.show.labels import Shown
from jaxrl.show.plot import Curve
from jaxrl.show.report import policies
from jaxrl.show.report.sources import Source
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.result import RunResult

LEVELS = 60  # thresholds of a performance profile
RESAMPLES = 500  # of its band
DIGITS = 6  # of a number in the page
COUNTS = ("iteration", "episodes", "diverged", "env_steps")  # metrics that are no curves


def of(sources: Sequence[Source]) -> dict[str, Any]:
    """The whole page, but for when it was written."""
    series = [one for number, source in enumerate(sources) for one in _series(number, source)]
    for one, label in zip(series, _labels(sources), strict=True):
        one["label"] = label
    return {
        "sources": [_source(source) for source in sources],
        "series": series,
        "profiles": _profiles(sources, series),
        "effects": [e | {"source": number} for number, source in enumerate(sources) for e in _effects(source)],
        "members": [member for number, source in enumerate(sources) for member in _members(number, source)],
        "policies": [
            p | {"source": number} for number, source in enumerate(sources) for p in policies.of(source.configurations)
        ],
    }


def _labels(sources: Sequence[Source]) -> list[str]:
    """What tells each of the series from the others of its environment."""
    shown = [Shown(s.base, found.setting, s.directory) for s in sources for found in s.configurations]
    told: dict[Any, str] = {}
    for env in {one.base.env for one in shown}:
        here = [i for i, one in enumerate(shown) if one.base.env == env]
        told |= dict(zip(here, labels.labels([shown[i] for i in here]), strict=True))
    return [told[i] for i in range(len(shown))]


def _short(x: Any) -> Any:
    """Numbers to DIGITS digits, as `plain` otherwise."""
    x = np.asarray(x, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(x))))
        rounded = np.where((x == 0) | ~np.isfinite(x), x, np.round(x * scale) / scale)
    return plain(rounded)


def _source(source: Source) -> dict[str, Any]:
    """What is known of a directory as a whole."""
    plan, base, result = source.plan, source.base, source.result
    train, evaluations = (sum(found.summary.get(name, 0.0) for found in source.waves) for name in ("run_s", "eval_s"))
    steps = sum(found.summary["env_steps"] for found in source.waves)
    limit = plan.memory_limit if plan else None
    return {
        "dir": str(source.directory),
        "kind": source.kind,
        "agent": base.agent,
        "env": base.env,
        "preset": _preset(base),
        "programs": [_program(source, plan, i) for i in range(plan.programs)] if plan and not plan.alone else [],
        "time": {"compile": round(result.compile_s, 3), "train": round(train, 3), "evaluate": round(evaluations, 3)},
        "steps_per_s": round(steps / max(result.run_s, 1e-9)),
        "waves": [_wave(source, found) for found in source.waves],
        "memory_limit": memory.readable(limit) if limit else None,
        "commands": source.commands,
        "extended": plan.extended if plan else [],
        "pictures": [policies.uri(path.read_bytes(), "png") for path in source.pictures],
        **source.about,
    }


def _preset(base: Experiment) -> str:
    """Which preset was used, and where it is from."""
    if base.preset == "none":
        return "none: the agent's defaults"
    ours = base.preset in presets.presets(str(base.agent))
    return f"{base.preset} (presets/{base.agent}.toml)" if ours else str(base.preset)


def _program(source: Source, plan: Plan, number: int) -> dict[str, Any]:
    """A line of a sweep's plan."""
    program = plan.program_list[number]
    return {
        "program": number,
        "members": len(program.members),
        "waves": len([found for found in source.waves if found.wave.program == number]),
        "layout": _layout(program.compiled.layout) if program.bytes else None,
        "bytes": program.bytes,
        "memory": memory.readable(program.bytes) if program.bytes else None,
        "statics": plan.statics(program),
    }


def _layout(layout: Layout) -> str:
    return f"{layout.devices} × {layout.padded // layout.devices}"


def _wave(source: Source, found: RunResult) -> dict[str, Any]:
    peak = found.summary.get("peak_bytes")
    return {
        "name": found.wave.directory.name if source.kind == "sweep" else source.kind,
        "members": len(found.wave.members),
        "layout": _layout(found.wave.layout),
        "train": found.summary["run_s"],
        "evaluate": found.summary.get("eval_s", 0.0),
        "steps_per_s": found.summary["steps_per_s"],
        "bytes": peak,
        "memory": memory.readable(peak) if peak else None,
    }


def _series(number: int, source: Source) -> list[dict[str, Any]]:
    """One for each configuration: how its metrics went, mean over seeds, the returns' with their band."""
    return [
        {
            "source": number,
            "config": found.number,
            "env": source.base.env,
            "seeds": len(found.seeds),
            "final": _final(found.final_return),
            "splits": _splits(found.splits),
            "diverged": int(found.diverged.sum()),
            "steps": (curve := sweep_plot.curve_of(found)).steps.tolist(),
            "seconds": _short(_seconds(source, found.number, curve.steps)),
            "metrics": _metrics(found, curve),
        }
        for found in source.configurations
    ]


def _metrics(found: Configuration, curve: Curve) -> dict[str, Any]:
    """How each metric went, at the points of the learning curve; left out where it has no number at all."""
    shown = {"episode_return": _banded(curve)}
    for name in sorted(set(found.metrics) - {*COUNTS, "episode_return"}):
        values = found.metrics[name]
        thin = plot.thinned("", found.metrics["env_steps"][0], values, np.isfinite(values))
        if not np.isnan(thin.returns).all():
            shown[name] = _banded(thin) if name == "eval_return" else {"mean": _short(thin.returns.mean(0))}
    return shown


def _final(returns: np.ndarray) -> dict[str, Any]:
    """Mean, interquartile mean and interval of a configuration's final returns [S]."""
    low, high = stats.seed_interval(returns)
    return {"mean": _short(returns.mean()), "iqm": _short(stats.iqm(returns)), "low": _short(low), "high": _short(high)}


def _splits(returns: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """Final returns by split [S] and the gap between training and test, as of `_final`; None without levels."""
    if not returns:
        return None
    return {name: _final(x) for name, x in returns.items()} | {"gap": _final(returns["train"] - returns["test"])}


def _banded(curve: Curve) -> dict[str, Any]:
    band = plot.band(curve)
    return {"mean": _short(plot.mean(curve)), "low": _short(band.low), "high": _short(band.high)}


def _seconds(source: Source, config: int, steps: np.ndarray) -> np.ndarray:
    """Seconds of training at `steps` of a seed: of the wave that trained it, with whatever ran beside; mean over waves."""
    pairs = zip(source.waves, source.clocks, strict=True)
    clocks = [clock for found, clock in pairs if any((m.config or 0) == config for m in found.wave.members)]
    return np.mean([np.interp(steps, *clock) for clock in clocks], 0)


def _effects(source: Source) -> list[dict[str, Any]]:
    """The panels of a sweep's varied settings."""
    if source.kind != "sweep" or len(source.configurations) < 2:
        return []
    shown = []
    for e in sweep_plot.effects_of(source.configurations):
        numbers = {key: _short(getattr(e, key)) for key in ("x", "mean", "low", "high", "each_x", "each_y")}
        shown.append({"name": e.name, "scale": e.scale, "joined": e.joined, "labels": list(e.labels), **numbers})
    return shown


def _members(number: int, source: Source) -> list[dict[str, Any]]:
    """Every member: its final return, and the interval over the episodes that it was evaluated in."""
    intervals = dict[tuple[int, int], list[float | None]]()
    for wave_result in source.waves:
        members = wave_result.wave.members
        ends = wave_result.summary.get("per_seed_interval") or [[None, None]] * len(members)
        intervals |= {(m.config or 0, m.seed): x for m, x in zip(members, ends, strict=True)}
    shown = []
    for found in source.configurations:
        for seed, final, diverged in zip(found.seeds, found.final_return, found.diverged, strict=True):
            low, high = intervals[found.number, seed]
            ends = {"final": _short(final), "low": low, "high": high, "diverged": bool(diverged)}
            shown.append({"source": number, "config": found.number, "seed": seed, **ends})
    return shown


def _profiles(sources: Sequence[Source], series: list[dict[str, Any]]) -> dict[str, Any]:
    """By environment the fraction of seeds that end above each return: thresholds, and a line for each of the series."""
    found: dict[str, Any] = {}
    returns = [one.final_return for source in sources for one in source.configurations]
    for env in dict.fromkeys(one["env"] for one in series):
        here = [i for i, one in enumerate(series) if one["env"] == env]
        scores = {i: returns[i] for i in here}
        known = np.concatenate(list(scores.values()))
        known = known[np.isfinite(known)]
        if not known.size:
            continue
        margin = 0.02 * np.ptp(known) or 1.0
        levels = np.linspace(known.min() - margin, known.max() + margin, LEVELS)
        lines = {}
        for i, x in scores.items():
            lines[str(i)] = {"mean": _short(stats.performance_profile(x, levels))}
            if len(x) >= stats.FEWEST_SEEDS:
                band = stats.profile_band(x, levels, resamples=RESAMPLES)
                lines[str(i)] |= {"low": _short(band.low), "high": _short(band.high)}
        found[env] = {"levels": _short(levels), "lines": lines}
    return found
