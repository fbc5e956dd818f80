"""Training a plan: in memory, or into a directory that can be gone on with and read back.

A run's directory is its only wave's. A sweep's holds

config.json     the plan: every setting, configuration, seed, program and layout; versions
waves/P-W/      a folder for each wave (see runs/directory.py); one with a summary.json is finished
summary.json    the finished sweep's result; curves.png and effects.png: its pictures
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.core import checks
from jaxrl.core.errors import InputError
from jaxrl.devices import platform
from jaxrl.runs import callbacks, directory, documents, files, metrics
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.driver import Interruption, Stop, Training, stop_signals
from jaxrl.runs.progress import Progress, on_terminal, say
from jaxrl.sweeps import reading, waves
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.result import Recorder, RunResult, SweepResult
from jaxrl.sweeps.waves import DEFAULTS, Engine, Options

Drawing = Callable[[Any, Path], None]
"""Draws pictures of a result into its directory."""


def in_memory(plan: Plan, callback_objects: Sequence[Any] = (), progress: bool | None = None) -> SweepResult:
    """Train a plan without writing anything; final states are kept on the host.

    progress: whether to show how far it is; None: where standard error is a terminal.
    """
    platform.remind()
    shown = on_terminal() if progress is None else progress
    label = f"{plan.base.env} {plan.base.agent}"
    for note in plan.notes if shown else ():
        say(f"jaxrl: {note}")
    done, before = [], plan.compile_s
    for program in plan.program_list:
        for wave in program.waves(plan.eval_every):
            recorder = Recorder()
            told = [*plan.callbacks, *callback_objects, recorder]
            told += [Progress(label)] if shown else []
            with Training(wave, program.compiled_for(wave.layout), told) as training:
                training.advance()
                done.append(recorder.result(training, training.conclude(), plan))
    return SweepResult(plan, done, plan.compile_s - before, sum(found.run_s for found in done))


def train(
    plan: Plan,
    folder: Path,
    options: Options = DEFAULTS,
    overwrite: bool = False,
    draw: Drawing | None = None,
    **engine: Any,
) -> dict[str, Any]:
    """Train a plan into a new directory and return its summary. Raises ValueError, Interruption.

    draw: makes the pictures. engine: what trains, as keywords of `engine_of`; default: this process.
    """
    plan.base.check_rebuildable()
    notes = plan.notes
    with engine_of(**engine) as run_waves:
        described = plan.to_json() | directory.about()
        if plan.alone:
            described |= directory.describe(plan.program_list[0].waves(plan.eval_every)[0])
        directory.create(folder, described, overwrite)
        for note in notes:
            say(f"jaxrl: {note}")
        return _finish(plan, folder, options, run_waves, draw)


def resume(
    folder: Path,
    options: Options = DEFAULTS,
    draw: Drawing | None = None,
    total_steps: int | None = None,
    **engine: Any,
) -> dict[str, Any]:
    """Go on with a run or a sweep, bit for bit: finished waves stay, others go on from their checkpoints.

    total_steps: train on to so many environment steps of each member, more than before. engine: as in `train`, and not
    always the one that it was begun with.
    """
    if total_steps is not None:
        extend(folder, total_steps)
    plan = reading.read_plan(folder, options.anyway)
    finished = (folder / SUMMARY).is_file()
    if finished and (options.tensorboard or options.wandb):
        say(f"jaxrl: {folder} is finished: nothing is left to write to TensorBoard or W&B (--total-steps N trains on)")
        options = dataclasses.replace(options, tensorboard=False, wandb=None)
    with engine_of(**engine) as run_waves:
        summary = _finish(plan, folder, options, run_waves, draw)
    if finished:
        say(f"jaxrl: {folder} was finished: nothing was left to train (--total-steps N trains on)")
    return summary


def extend(folder: Path, total_steps: int) -> None:
    """Set a longer training in config.json, which says so under `extended`. Schedules then span the new total.

    Raises ValueError where it is not longer, or somebody trains there.
    """
    values = documents.read_config(folder, *reading.KINDS)
    before = values["total_steps"]
    if total_steps == before:
        return
    if total_steps < before:
        raise InputError(f"total_steps = {total_steps:,} must be more than the {before:,} that {folder} was made for")
    directory.read_experiment(folder, values | {"total_steps": total_steps}).trainer()  # refused here if it cannot be
    change = {"from": before, "to": total_steps}
    with directory.held(folder) as lock:
        for path in [*(path for _, path in waves.numbered(folder)), folder]:
            described = documents.read_config(path)
            if described["total_steps"] == total_steps:
                continue  # killed in the midst of it
            described |= {"total_steps": total_steps, "extended": [*described.get("extended", []), change]}
            (path / SUMMARY).unlink(missing_ok=True)
            lock.rewrite(described) if path == folder else documents.write(path / CONFIG, described)


@contextmanager
def engine_of(engine: str = "local", ray_address: str | None = None, cpus_per_worker: int | None = None) -> Iterator[Engine]:
    """What trains a sweep: "local", this process; or "ray", the workers of a cluster (see ray_engine.py).

    Raises ValueError where there is no such cluster.
    """
    if engine == "local":
        yield train_here
        return
    from jaxrl.sweeps import ray_engine

    with ray_engine.workers(ray_address, cpus_per_worker) as train_there:
        yield train_there


def train_here(plan: Plan, folder: Path, options: Options, stop: Stop) -> tuple[float, int]:
    """The engine "local": wave after wave in this process."""
    if reading.devices(folder) > jax.local_device_count():
        raise InputError(f"{folder} ran on {reading.devices(folder)} devices, here are {jax.local_device_count()}")
    planned = waves.planned(plan, folder)
    for number, wave in enumerate(planned, 1):
        with_label = dataclasses.replace(options, label=f"wave {number}/{len(planned)}")
        try:
            waves.finish(plan, wave, with_label, stop)
        except Interruption as stopped:
            raise Interruption(f"stopped in wave {number} of {len(planned)}", stopped.number) from stopped
    return plan.compile_s, 1


def _finish(plan: Plan, folder: Path, options: Options, run_waves: Engine, draw: Drawing | None) -> dict[str, Any]:
    platform.remind()
    with directory.held(folder, options.patience) as lock, stop_signals() as stop:
        if options.anyway:
            directory.mark(folder, lock, plan.sources)
        try:
            if plan.alone:
                (wave,) = waves.found(plan, folder)
                pictures = [_Pictures(plan, folder, draw)] if draw else []
                return waves.finish(plan, wave, options, stop, pictures)
            compile_s, workers = run_waves(plan, folder, options, stop)
            result = reading.result_of(plan, folder, compile_s, workers)
            drawn(draw, result, folder)
            summary = _summary(result, folder)
            documents.write(folder / SUMMARY, summary)
            return summary
        except Interruption as stopped:
            raise Interruption(f"{stopped}; go on with: jaxrl resume {folder}", stopped.number) from stopped


class _Pictures(callbacks.RowCallback):
    """Draws a run's pictures before its summary is written."""

    def __init__(self, plan: Plan, folder: Path, draw: Drawing) -> None:
        self._plan, self._folder, self._draw = plan, folder, draw

    def finish(self, training: Training, summary: dict[str, Any]) -> None:
        """Draw what was trained."""
        host, table = training.host_states(), files.read_metrics(training.wave)
        result = RunResult(training.wave, training.trainer, table, lambda: host, summary, self._plan)
        drawn(self._draw, result, self._folder)


def drawn(draw: Callable[..., None] | None, *args: Any) -> None:
    """Call `draw`, where there is one. What cannot be drawn is a warning: pictures never cost a training its summary."""
    if draw is None:
        return
    try:
        draw(*args)
    except Exception as error:
        warnings.warn(f"pictures are not drawn: {error!r}{checks.place(error)}", stacklevel=2)


def _summary(result: SweepResult, folder: Path) -> dict[str, Any]:
    """What a sweep's summary.json says."""
    plan = result.plan
    steps = sum(found.summary["env_steps"] for found in result.waves)
    return {
        "agent": plan.base.agent,
        "env": plan.base.env,
        "configs": plan.configurations,
        "seeds": plan.seeds,
        "env_steps": steps,
        "programs": plan.programs,
        "final_return": metrics.plain(result.final_return),
        **({"splits": {name: metrics.plain(x) for name, x in result.splits.items()}} if result.splits else {}),
        "diverged": [[int(c), result.seeds[s]] for c, s in np.argwhere(result.diverged)],
        "compile_s": round(result.compile_s, 3),
        "run_s": round(result.run_s, 6),
        "steps_per_s": round(steps / max(result.run_s, 1e-9)),
        "out": str(folder),
    }
