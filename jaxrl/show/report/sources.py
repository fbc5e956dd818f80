"""Reading what a report shows: finished runs and sweeps, each as a SweepResult and the files of its waves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.devices.programs import Programs
from jaxrl.runs import metrics, rundir
from jaxrl.show import reproduce
from jaxrl.sweeps import sweepdir, waves
from jaxrl.sweeps.planning import Group, Plan
from jaxrl.sweeps.sweeping import SweepResult
from jaxrl.sweeps.waves import Part
from jaxrl.tuning import tunedir


class Trained(NamedTuple):
    """A run directory: itself, or a wave of a sweep. clock: seconds of training, by environment steps of a seed."""

    part: Part
    summary: dict[str, Any]
    clock: tuple[np.ndarray, np.ndarray]


class Source(NamedTuple):
    """A run or a sweep. about: versions, devices, commit. commands: train it again."""

    directory: Path
    swept: bool
    result: SweepResult
    waves: list[Trained]
    about: dict[str, Any]
    commands: list[str]


def read(directory: Path) -> Source:
    """A finished run or sweep. Raises ValueError where it is none, is damaged, or is not finished."""
    if tunedir.is_tuning(directory):
        raise InputError(f"{directory} is a tuning; a report shows runs and sweeps: {directory / tunedir.CONFIRMATION}")
    return _sweep(directory) if sweepdir.is_sweep(directory) else _run(directory)


def _sweep(directory: Path) -> Source:
    values = sweepdir.read_plan_json(directory)
    if not (directory / sweepdir.SUMMARY).is_file():
        raise InputError(f"{directory} is not finished; go on with: jaxrl resume {directory}")
    result = sweepdir.load(directory)
    trained = [_trained(part, result.plan.groups[part.group]) for part in waves.found(result.plan, directory)]
    devices = [rundir.read_config(wave.part.path).get("device") for wave in trained]
    distinct = [device for i, device in enumerate(devices) if device not in devices[:i]]
    about = _about(values) | {"devices": distinct}
    return Source(directory, True, result, trained, about, reproduce.sweep_commands(result.plan))


def _run(directory: Path) -> Source:
    run, values = rundir.open_run(directory)
    if any(member.config is not None for member in run.members):
        raise InputError(f"{directory} is a part of a sweep; give {directory.absolute().parent.parent}")
    if not (directory / rundir.SUMMARY).is_file():
        raise InputError(f"{directory} is not finished; go on with: jaxrl resume {directory}")
    trainer, part = run.experiment.trainer(), Part(0, run, directory)
    group = Group(run.experiment, run.members, Programs(trainer, run.layout), None)
    wave, summary = sweepdir.read_wave(trainer, part)
    plan = Plan(run.experiment, [{}], len(run.members), run.members[0].seed, run.eval_every, None, [group])
    try:
        result = SweepResult(plan, [(group, wave)], summary["compile_s"], summary["run_s"])
    except KeyError as error:
        raise InputError(f"{directory / rundir.SUMMARY} is damaged: it has no {error}") from error
    about = _about(values) | {"devices": [values.get("device")]}
    return Source(directory, False, result, [_trained(part, group)], about, [reproduce.run_command(run)])


def _about(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values.get(name) for name in ("versions", "git_commit")}


def _trained(part: Part, group: Group) -> Trained:
    rows, steps = metrics.read(part.path / rundir.TIMING), group.programs.trainer.steps_per_iteration
    return Trained(part, rundir.read_json(part.path / rundir.SUMMARY), clock(rows, steps))


def clock(rows: list[metrics.Row], steps_per_iteration: int) -> tuple[np.ndarray, np.ndarray]:
    """timing.jsonl as (environment steps, seconds since the start), both [chunks + 1], evaluations left out.

    A resumed process trains again what came after the last checkpoint; that time counts once, as the later process took it.
    """
    done: list[tuple[int, float]] = [(0, 0.0)]
    for row in rows:
        before = row["env_steps"] - row["iterations"] * steps_per_iteration
        while done[-1][0] > before:
            done.pop()
        done.append((row["env_steps"], done[-1][1] + row["seconds"]))
    steps, seconds = zip(*done, strict=True)
    return np.array(steps), np.array(seconds)
