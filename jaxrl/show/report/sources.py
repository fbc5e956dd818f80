"""Reading what a report shows: finished directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.experiment.experiment import Experiment
from jaxrl.runs import documents, metrics
from jaxrl.runs.directory import CONFIRMATION, TRIALS
from jaxrl.runs.documents import SUMMARY
from jaxrl.runs.metrics import TIMING, TIMING_ROW
from jaxrl.show import configurations, reproduce
from jaxrl.show.configurations import Configuration, Result
from jaxrl.sweeps import reading
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.result import RunResult, SweepResult
from jaxrl.tuning import directory as tunings

Clock = tuple[np.ndarray, np.ndarray]


class Source(NamedTuple):
    """A finished directory. kind: as its config.json says. clocks: of each wave, seconds of training by environment steps of
    a seed (see `clock`). about: versions, devices, commit. commands: train it again. pictures: PNG files to show.
    """

    directory: Path
    kind: str
    result: Result
    configurations: list[Configuration]
    clocks: list[Clock]
    about: dict[str, Any]
    commands: list[str]
    pictures: list[Path]

    @property
    def base(self) -> Experiment:
        """What was trained, but for what is varied."""
        return configurations.base_of(self.result)

    @property
    def plan(self) -> Plan | None:
        """Of a run or a sweep."""
        return self.result.plan if self.kind in reading.KINDS else None

    @property
    def waves(self) -> Sequence[RunResult]:
        """What was trained side by side."""
        return self.result.waves if isinstance(self.result, SweepResult) else [self.result]


def read(directory: Path) -> Source:
    """A finished directory; of a tuning its confirmation. Raises ValueError where it is none, or not finished."""
    values = documents.read_config(directory)
    kind, pictures = values["kind"], [directory / TRIALS]
    if not (directory / SUMMARY).is_file():
        raise InputError(f"{directory} is not finished; go on with: jaxrl resume {directory}")
    result = tunings.load(directory)
    if kind == "tuning":
        directory, kind = directory / CONFIRMATION, "sweep"
        values = documents.read_config(directory)
    waves = result.waves if isinstance(result, SweepResult) else [result]
    devices = [documents.read_config(found.wave.directory)["device"] for found in waves]
    about = {name: values.get(name) for name in ("versions", "git_commit")}
    about["devices"] = [device for i, device in enumerate(devices) if device not in devices[:i]]
    clocks = []
    for found in waves:
        rows = metrics.read(found.wave.directory / TIMING, TIMING_ROW)
        clocks.append(clock(rows, found.trainer.steps_per_iteration))
    commands = reproduce.commands(result.plan) if kind in reading.KINDS else []
    shown = [picture for picture in pictures if picture.is_file()]
    return Source(directory, kind, result, configurations.of(result), clocks, about, commands, shown)


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
