"""A sweep's directory: what it holds, running it wave by wave, and reading it back.

sweep.json      the plan: every setting, configuration, seed, program and layout; versions
waves/G-W/      a run directory each: wave W of program G (see waves.py, rundir.py); one with a summary.json is finished
summary.json    the finished sweep's result; curves.png and effects.png: its pictures
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree
from jaxrl.devices import platform
from jaxrl.experiment import experiment
from jaxrl.runs import checkpoint, metrics, rundir
from jaxrl.runs import run as driver
from jaxrl.runs.rundir import Run
from jaxrl.show import sweep_plot
from jaxrl.sweeps import planning, waves
from jaxrl.sweeps.planning import Plan
from jaxrl.sweeps.sweeping import Metrics, SweepResult, Wave
from jaxrl.sweeps.waves import Part

SWEEP, SUMMARY = "sweep.json", "summary.json"
CURVES, EFFECTS = "curves.png", "effects.png"
FORMAT = 1
DEFAULTS = driver.Options()
Engine = Callable[[Plan, Path, driver.Options], tuple[float, int]]
"""Trains what is left of a sweep; gives the seconds of compiling, and how many workers there were at once."""


def is_sweep(directory: Path) -> bool:
    """Whether a directory holds a sweep."""
    return (directory / SWEEP).is_file()


def create(plan: Plan, directory: Path, overwrite: bool = False) -> None:
    """Make the directory and its sweep.json.

    Raises ValueError where it is not empty; with `overwrite`, a former sweep's files are removed instead.
    """
    if rundir.check_free(directory, overwrite, read_plan_json, "sweep"):
        with rundir.held(directory / SWEEP):
            clear(directory)
    directory.mkdir(parents=True, exist_ok=True)
    about = {"versions": platform.versions(), "device": platform.device(), "git_commit": platform.git_commit()}
    rundir.write_json(directory / SWEEP, {"jaxrl_sweep": FORMAT, **plan.to_json(), **about})


def clear(directory: Path) -> None:
    """Remove a former sweep's files, and nothing else."""
    shutil.rmtree(directory / waves.WAVES, ignore_errors=True)
    for name in (SUMMARY, CURVES, EFFECTS, SWEEP):
        (directory / name).unlink(missing_ok=True)


def read_plan_json(directory: Path) -> dict[str, Any]:
    """A sweep's sweep.json. Raises ValueError where the directory is none of ours, or damaged."""
    return rundir.read_document(directory, SWEEP, "jaxrl_sweep", FORMAT, "sweep")


def read_plan(directory: Path) -> Plan:
    """The plan of a sweep directory, nothing compiled. Raises ValueError."""
    values = read_plan_json(directory)
    try:
        return planning.from_json(experiment.from_json(values["experiment"]), values)
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / SWEEP} is damaged: {error!r}") from error


def devices(directory: Path) -> int:
    """Over how many devices a sweep is laid: as planned, and as begun waves are that are not finished. Raises ValueError."""
    begun = [path for _, path in waves.numbered(directory) if not (path / rundir.SUMMARY).exists()]
    try:
        groups = read_plan_json(directory)["groups"]
        planned = [int(group["devices"]) for group in groups if group["bytes"] is not None]
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / SWEEP} is damaged: {error!r}") from error
    return max([1, *planned, *map(rundir.devices, begun)])


@contextmanager
def engine_of(engine: str = "local", ray_address: str | None = None, cpus_per_worker: int | None = None) -> Iterator[Engine]:
    """What trains a sweep: "local", this process; or "ray", the workers of a cluster (see ray_engine.py).

    Raises ValueError where there is no such cluster.
    """
    if engine == "local":
        yield train_here
        return
    from jaxrl.sweeps import ray_engine

    with ray_engine.workers(ray_address, cpus_per_worker) as train:
        yield train


def train_here(plan: Plan, directory: Path, options: driver.Options) -> tuple[float, int]:
    """The engine "local": wave after wave in this process."""
    if devices(directory) > jax.local_device_count():
        raise InputError(f"{directory} ran on {devices(directory)} devices, here are {jax.local_device_count()}")
    planned = waves.planned(plan, directory)
    for number, part in enumerate(planned, 1):
        how = dataclasses.replace(options, label=f"wave {number}/{len(planned)}")
        try:
            waves.finish(plan, part, how)
        except driver.Interrupted as stopped:
            message = f"stopped in wave {number} of {len(planned)}; go on with: jaxrl resume {directory}"
            raise driver.Interrupted(message, stopped.number) from stopped
    return sum(group.compile_s for group in plan.groups), 1


def run(
    plan: Plan, directory: Path, options: driver.Options = DEFAULTS, overwrite: bool = False, **engine: Any
) -> dict[str, Any]:
    """Train a plan into a new directory and return its summary. Raises ValueError, Interrupted.

    engine: what trains, as keywords of `engine_of`; default: this process.
    """
    with engine_of(**engine) as train:
        create(plan, directory, overwrite)
        return _finish(plan, directory, options, train)


def resume(directory: Path, options: driver.Options = DEFAULTS, **engine: Any) -> dict[str, Any]:
    """Go on with a sweep, bit for bit: finished waves stay, those that were running go on from their checkpoints.

    engine: as in `run`, and not always the one that the sweep was begun with.
    """
    plan = read_plan(directory)
    with engine_of(**engine) as train:
        return _finish(plan, directory, options, train)


def load(directory: str | Path) -> SweepResult:
    """A finished sweep. Raises ValueError where a wave is missing; policies are read when asked for."""
    path = Path(directory)
    result, summary = _result(read_plan(path), path), path / SUMMARY
    if summary.is_file():  # else it was stopped behind its last wave
        values = rundir.read_json(summary)
        try:
            result.compile_s, result.run_s = values["compile_s"], values["run_s"]
        except KeyError as error:
            raise InputError(f"{summary} is damaged: it has no {error}") from error
    return result


def policies(directory: Path, config: int | None) -> tuple[Trainer, PyTree, int]:
    """The trainer and the states [seeds, ...] of a finished sweep's configuration (None: its best), and its number."""
    result = load(directory)
    if config is not None and config >= len(result.configs):
        raise InputError(f"config {config} is out of range: {directory} has {len(result.configs)}, from 0 on")
    chosen = result.best() if config is None else config
    found = [result.agent(chosen, j) for j in range(len(result.seeds))]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in found))
    return found[0][0], states, chosen


def _finish(plan: Plan, directory: Path, options: driver.Options, train: Engine) -> dict[str, Any]:
    with rundir.held(directory / SWEEP):
        compile_s, workers = train(plan, directory, options)
        return _conclude(_result(plan, directory, compile_s, workers), directory, options.pictures)


def _conclude(result: SweepResult, directory: Path, pictures: bool) -> dict[str, Any]:
    """The pictures and summary.json."""
    plan = result.plan
    summary = {
        "agent": plan.base.agent,
        "env": plan.base.env,
        "configs": plan.settings,
        "seeds": plan.seeds,
        "env_steps": plan.env_steps,
        "programs": plan.programs,
        "final_return": metrics.plain(result.final_return),
        "diverged": [[int(c), result.seeds[s]] for c, s in np.argwhere(result.diverged)],
        "compile_s": round(result.compile_s, 3),
        "run_s": round(result.run_s, 6),
        "steps_per_s": round(plan.env_steps / max(result.run_s, 1e-9)),
        "out": str(directory),
    }
    if pictures:
        sweep_plot.curves(result, directory / CURVES)
        sweep_plot.effects(result, directory / EFFECTS)
    rundir.write_json(directory / SUMMARY, summary)
    return summary


def _result(plan: Plan, directory: Path, compile_s: float = 0.0, workers: int = 1) -> SweepResult:
    """run_s: of the waves together; of several workers, the mean of what each took."""
    parts = waves.found(plan, directory)
    left = sum(map(len, waves.missing(plan, parts)))
    if left:
        raise InputError(f"{left} members of {directory} are in no wave yet; go on with: jaxrl resume {directory}")
    done = [(plan.groups[part.group], read_wave(plan.groups[part.group].programs.trainer, part)) for part in parts]
    run_s = sum(summary["run_s"] for _, (_, summary) in done) / workers
    return SweepResult(plan, [(group, wave) for group, (wave, _) in done], compile_s, run_s)


def read_wave(trainer: Trainer, part: Part) -> tuple[Wave, dict[str, Any]]:
    """A finished wave, and its summary."""
    run, path = part.run, part.path
    if not part.finished:
        raise InputError(f"wave {path} is not finished; go on with: jaxrl resume {path.parent.parent}")
    summary = rundir.read_json(path / rundir.SUMMARY)

    @functools.cache
    def states() -> PyTree:
        found = rundir.restore(path, run, trainer)
        if found is None:
            raise InputError(f"{path} has no checkpoint")
        return checkpoint.to_host(found[0])

    try:
        returns = [np.nan if x is None else x for x in summary["final_return"]["per_seed"]]
        table = _table(run, metrics.read(path / rundir.METRICS))
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} is damaged: {error!r}") from error
    return Wave(run, table, np.array(returns), states), summary


def _table(run: Run, rows: list[metrics.Row]) -> Metrics:
    """Rows as {name: [members, iterations]}: NaN where one has no value."""
    index = {metrics.name_of(member.label): i for i, member in enumerate(run.members)}
    shape = (len(index), 1 + rows[-1]["iteration"])
    table: Metrics = {}
    for row in rows:
        at = index[metrics.name_of(row)], row["iteration"]
        for name in row.keys() - {"iteration", "config", "seed"}:
            if name not in table:
                table[name] = _empty(row[name], shape)
            if row[name] is not None:
                table[name][at] = row[name]
    return table


def _empty(like: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array for values such as `like` (None is a float that was no number)."""
    if isinstance(like, bool):
        return np.zeros(shape, bool)
    return np.zeros(shape, np.int32) if isinstance(like, int) else np.full(shape, np.nan, np.float32)
