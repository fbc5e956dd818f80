"""The commands that look at what was trained: `jaxrl eval | plot | report | watch`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.cli import flags
from jaxrl.cli.options import EvalOptions, PlotOptions, ReportOptions, WatchOptions
from jaxrl.core.errors import InputError
from jaxrl.core.settings import build
from jaxrl.devices import platform


def evaluate(args: Sequence[str]) -> int:
    """evaluate a run's policies greedily: jaxrl eval DIR"""
    options = build(EvalOptions, vars(flags.parse(EvalOptions, args, "jaxrl eval")), "jaxrl eval")
    platform.configure(1)
    import jax

    from jaxrl.core import evaluation, loop, trees
    from jaxrl.runs import rundir
    from jaxrl.show import render, value_map
    from jaxrl.sweeps import sweepdir

    config = None
    if sweepdir.is_sweep(options.dir):
        trainer, states, config = sweepdir.policies(options.dir, options.config)
    elif options.config is None:
        trainer, states = rundir.load(options.dir)
    else:
        raise InputError(f"--config is for sweeps, and {options.dir} is none")
    if options.gif and not options.gif.absolute().parent.is_dir():
        raise InputError(f"--gif {options.gif}: no such directory {options.gif.absolute().parent}")

    def one(state: Any) -> Any:
        return evaluation.evaluate(trainer, state, loop.stream(state.key, loop.EVALUATE, 0), options.episodes)

    result = jax.device_get(jax.vmap(one)(states))
    first = trees.member(states, 0)
    if options.gif:
        render.policy_gif(trainer, first, loop.stream(first.key, loop.RENDER), options.gif)
    if options.json:
        values = {name: x.tolist() for name, x in result._asdict().items()}
        which = {} if config is None else {"config": config}
        print(json.dumps({**which, **values, "mean": float(result.returns.mean())}))
        return 0
    if config is not None:
        print(f"configuration {config}")
    table = value_map.q_table(trainer, first)
    if table is not None:
        print(f"action values of member 0, * greedy\n{value_map.text(trainer.env.spec, table)}")
    for seed, (returns, lengths) in enumerate(zip(result.returns, result.lengths, strict=True)):
        print(f"member {seed}: return {returns.mean():.2f} ± {returns.std():.2f}, length {lengths.mean():.1f}")
    print(f"mean return {result.returns.mean():.2f} over {result.returns.size} episodes")
    return 0


def plot(args: Sequence[str]) -> int:
    """draw learning curves, a run's table of values, a sweep's effects: jaxrl plot DIR..."""
    options = flags.parse(PlotOptions, args, "jaxrl plot")
    if not options.dirs:
        raise InputError("jaxrl plot needs at least one directory of a run or a sweep")
    platform.configure(1)
    from jaxrl.runs import rundir
    from jaxrl.sweeps import sweepdir

    first, alone = options.dirs[0], len(options.dirs) == 1
    swept = [sweepdir.is_sweep(directory) for directory in options.dirs]
    for directory, is_sweep in zip(options.dirs, swept, strict=True):
        (sweepdir.read_plan_json if is_sweep else rundir.read_config)(directory)
    out = options.out or (first / (sweepdir.CURVES if swept[0] else rundir.CURVE) if alone else Path("curves.png"))
    _writable(out)
    draw = _plot_sweep if alone and swept[0] else _plot_run if alone else _plot_several
    for picture in draw(options.dirs, out):
        print(picture)
    return 0


def _plot_run(directories: Sequence[Path], out: Path) -> Iterator[Path]:
    """Draw a run's learning curve, and its table of values beside it where it has one; gives what was drawn."""
    from jaxrl.runs import rundir
    from jaxrl.show import plot, value_map

    plot.curve(directories, out)
    yield out
    found = value_map.of_run(directories[0])
    if found:
        value_map.picture(*found, out.with_name(rundir.VALUES))
        yield out.with_name(rundir.VALUES)


def _plot_sweep(directories: Sequence[Path], out: Path) -> Iterator[Path]:
    """Draw a sweep's learning curves, and the effects of its settings beside them."""
    from jaxrl.show import sweep_plot
    from jaxrl.sweeps import sweepdir

    beside = out.with_name(sweepdir.EFFECTS)
    if out == beside:
        raise InputError(f"--out {out} is for the curves; {sweepdir.EFFECTS} is written beside it, give another name")
    result = sweepdir.load(directories[0])
    sweep_plot.curves(result, out)
    yield out
    sweep_plot.effects(result, beside)
    yield beside


def _plot_several(directories: Sequence[Path], out: Path) -> Iterator[Path]:
    """Draw learning curves of runs and sweeps into one picture, each sweep's that of its best configuration."""
    from jaxrl.show import plot, sweep_plot
    from jaxrl.sweeps import sweepdir

    def read(directory: Path) -> plot.Curve:
        return (
            sweep_plot.best_curve(sweepdir.load(directory)) if sweepdir.is_sweep(directory) else plot.read_curve(directory)
        )

    plot.compare([read(directory) for directory in directories], directories, out)
    yield out


def report(args: Sequence[str]) -> int:
    """write one HTML file about runs and sweeps: jaxrl report DIR... --out report.html"""
    options = flags.parse(ReportOptions, args, "jaxrl report")
    if not options.dirs:
        raise InputError("jaxrl report needs at least one directory of a run or a sweep")
    _writable(options.out)
    platform.configure()
    from jaxrl.show import report

    report.require()
    report.write(options.dirs, options.out)
    print(options.out)
    return 0


def watch(args: Sequence[str]) -> int:
    """show how far a run or a sweep is, live, from any shell: jaxrl watch DIR"""
    options = build(WatchOptions, vars(flags.parse(WatchOptions, args, "jaxrl watch")), "jaxrl watch")
    from jaxrl.show import watch

    watch.follow(options.dir, options.every, options.once)
    return 0


def _writable(out: Path) -> None:
    """Raises ValueError where a file cannot be written there."""
    if out.is_dir():
        raise InputError(f"--out {out} is a directory; give a file")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: no such directory {out.absolute().parent}")
    if not os.access(out.absolute().parent, os.W_OK):
        raise InputError(f"--out {out}: {out.absolute().parent} cannot be written to")
