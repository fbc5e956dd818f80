"""Reading what a report shows: finished runs and sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.runs import documents, metrics
from jaxrl.runs.directory import CONFIRMATION
from jaxrl.runs.documents import SUMMARY
from jaxrl.runs.metrics import TIMING, TIMING_ROW
from jaxrl.show import reproduce
from jaxrl.sweeps import reading
from jaxrl.sweeps.result import RunResult, SweepResult

Clock = tuple[np.ndarray, np.ndarray]


class Source(NamedTuple):
    """A run or a sweep. clocks: of each wave, seconds of training by environment steps of a seed (see `clock`).

    about: versions, devices, commit. commands: train it again.
    """

    directory: Path
    result: SweepResult
    clocks: list[Clock]
    about: dict[str, Any]
    commands: list[str]


def read(directory: Path) -> Source:
    """A finished run or sweep. Raises ValueError where it is none, is damaged, or is not finished."""
    values = documents.read_config(directory)
    if values["kind"] in ("tuning", "population"):
        raise InputError(f"{directory} is a tuning; a report shows runs and sweeps: {directory / CONFIRMATION}")
    if values["kind"] == "wave":
        raise InputError(f"{directory} is a part of a sweep; give {directory.absolute().parent.parent}")
    if not (directory / SUMMARY).is_file():
        raise InputError(f"{directory} is not finished; go on with: jaxrl resume {directory}")
    loaded = reading.load(directory)
    result = loaded.sweep if isinstance(loaded, RunResult) else loaded
    devices = [documents.read_config(found.wave.directory)["device"] for found in result.waves]
    about = {name: values.get(name) for name in ("versions", "git_commit")}
    about["devices"] = [device for i, device in enumerate(devices) if device not in devices[:i]]
    clocks = []
    for found in result.waves:
        per = result.plan.program_list[found.wave.program].compiled.trainer.steps_per_iteration
        clocks.append(clock(metrics.read(found.wave.directory / TIMING, TIMING_ROW), per))
    return Source(directory, result, clocks, about, reproduce.commands(result.plan))


def clock(rows: list[metrics.Row], steps_per_iteration: int) -> Clock:
    """timing.jsonl as (environment steps, seconds since the start), both [chunks + 1], evaluations left out.

    A resumed process trains again what came after the last checkpoint; that time counts once, as the later process took it.
    """
    done: list[tuple[int, float]] = [(0, 0.0)]
    for row in rows:
        before = row["env_steps"] - row["iterations"] * steps_per_iteration
        while len(done) > 1 and done[-1][0] > before:
            done.pop()
        done.append((row["env_steps"], done[-1][1] + row["seconds"]))
    steps, seconds = zip(*done, strict=True)
    return np.array(steps), np.array(seconds)
