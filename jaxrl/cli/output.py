"""What the commands that train print at their end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrl.core.numbers import counted, interval, readable
from jaxrl.experiment import search_space
from jaxrl.runs.directory import TRIALS
from jaxrl.runs.driver import Interruption

SHOWN = 10  # configurations of a sweep's result


def finish(work: Callable[[], dict[str, Any]], as_json: bool) -> int:
    """Train, then print the summary; the exit code, 128 + signal where training was stopped."""
    try:
        summary = work()
    except Interruption as stopped:
        print(f"jaxrl: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    if as_json:
        print(json.dumps(summary))
    elif "method" in summary:
        _print_tuning(summary)
    elif "configs" in summary:
        _print_sweep(summary)
    else:
        _print_run(summary)
    return 0


def _print_run(summary: dict[str, Any]) -> None:
    from jaxrl.core.stats import FEWEST_SEEDS

    final, out = summary["final_return"], Path(summary["out"])
    mean, low, high = final["mean"], final["ci_low"], final["ci_high"]
    few = summary["seeds"] < FEWEST_SEEDS
    between = f"no interval of fewer than {FEWEST_SEEDS} seeds" if few else f"95 % {interval(low, high, mean)}"
    what = f"{summary['agent']} on {summary['env']}"
    print(
        f"{what}: greedy return {readable(mean, low, high)} (IQM {readable(final['iqm'], low, high)}, {between}) "
        f"over {counted(summary['seeds'], 'seed')}; {_pace(summary, summary['seeds'])}"
    )
    if summary.get("human_normalized") is not None:
        print(f"human-normalised score {readable(summary['human_normalized'])}")
    if "splits" in summary:
        print(_levels(summary))
    if summary["diverged"]:
        print(f"diverged (something was not finite): seeds {', '.join(map(str, summary['diverged']))}")
    if "stopped" in summary:
        print(f"stopped: {summary['stopped']}")
    _print_pictures(out, {"curve": "curve.png", "values": "values.png", "policy": "policy.gif"})
    print(f"run     {out}")


def _levels(summary: dict[str, Any]) -> str:
    """The returns of the three splits and what lies between the first and the last."""
    means, gap = {name: found["mean"] for name, found in summary["splits"].items()}, summary["generalization_gap"]
    of_each = ", ".join(f"{name} {readable(mean, *means.values())}" for name, mean in means.items())
    mean, low, high = gap["mean"], gap["ci_low"], gap["ci_high"]
    between = f", 95 % {interval(low, high, mean)}" if low is not None else ""
    return f"levels: {of_each}; generalisation gap {readable(mean, low, high)}{between}"


def _print_sweep(summary: dict[str, Any]) -> None:
    """The best configurations with their intervals, those that diverged, and where the rest lies."""
    import numpy as np

    from jaxrl.core import stats
    from jaxrl.sweeps.result import ranked

    out = Path(summary["out"])
    returns = np.array(summary["final_return"], float)
    splits = {name: np.array(x, float) for name, x in summary.get("splits", {}).items()}
    means, order = returns.mean(1), ranked(splits.get("validation", returns))
    print(
        f"{summary['agent']} on {summary['env']}: {len(returns)} configurations × {summary['seeds']} seeds; "
        + _pace(summary, returns.size)
    )
    gaps = (splits["train"] - splits["test"]).mean(1) if splits else None
    beside = "" if gaps is None else f" {'gap':>8}"
    print(f"{'config':>6} {'return':>10} {'95 % interval':>22}{beside}  settings")
    for c in order[:SHOWN]:
        low, high = stats.seed_interval(returns[c])
        numbers = f"{readable(means[c], low, high):>10} {interval(low, high, means[c]):>22}"
        gap = "" if gaps is None else f" {readable(gaps[c], means[c]):>8}"
        print(f"{c:>6} {numbers}{gap}  {search_space.text(summary['configs'][c])}")
    if len(order) > SHOWN:
        print(f"and {len(order) - SHOWN} more in {out / 'summary.json'}")
    for c, seed in summary["diverged"]:
        print(f"diverged (something was not finite): config {c} seed {seed}  {search_space.text(summary['configs'][c])}")
    _print_pictures(out, {"curves": "curves.png", "effects": "effects.png"})
    print(f"sweep   {out}")


def _print_tuning(summary: dict[str, Any]) -> None:
    """The best setting, and how it does on fresh seeds beside the one tuning began from."""
    print(f"{summary['agent']} on {summary['env']}, {summary['method']}: best value {readable(summary['value'])} with")
    print(f"  {search_space.text(summary['best'])}")
    for name, found in (summary.get("confirmation") or {}).items():
        (low, high), mean = found["interval"], found["mean"]
        print(
            f"{name:7} {readable(mean, low, high)}, 95 % {interval(low, high, mean)} on {len(found['per_seed'])} fresh seeds"
        )
    print(f"{summary['env_steps']:,} steps in {summary['run_s']:.1f} s, {counted(summary['programs'], 'program')} compiled")
    _print_pictures(Path(summary["out"]), {"picture": TRIALS})
    print(f"tuning  {summary['out']}")


def _print_pictures(out: Path, names: dict[str, str]) -> None:
    for name, file in names.items():
        if (out / file).exists():
            print(f"{name:8}{out / file}")


def _pace(summary: dict[str, Any], members: int) -> str:
    """Steps and speed; the steps of each member, where all took as many."""
    each, rest = divmod(summary["env_steps"], members)
    steps = f"{each:,} steps each" if members > 1 and not rest else f"{summary['env_steps']:,} steps"
    return (
        f"{steps} in {summary['run_s']:.1f} s ({summary['steps_per_s']:,} steps/s{' in all' if members > 1 else ''}), "
        f"compiled in {summary['compile_s']:.1f} s"
    )
