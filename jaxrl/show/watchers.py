"""What the files of a directory tell while it trains: how far it is, and how it does. Nothing is written."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.experiment import search_space
from jaxrl.experiment.members import Name
from jaxrl.runs import directory as folders
from jaxrl.runs import documents
from jaxrl.runs.directory import CONFIRMATION
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.show.tails import NEWEST, Track, WaveWatcher
from jaxrl.sweeps import waves
from jaxrl.tuning import directory as tunings
from jaxrl.tuning import studies

SWEPT = ("sweep", "wave")  # kinds whose members are shown by configuration


class Line(NamedTuple):
    """A row of the table: a member, or a configuration's mean over its members. curve: returns in training, in order."""

    label: str
    share: float
    curve: list[float]
    last: dict[str, float]
    diverged: int


class Look(NamedTuple):
    """What is shown. done, total: environment steps of all members, or what `unit` says. speed: those of a second, lately.

    seconds: of training so far, all processes. quiet: seconds since the last news.
    """

    title: str
    about: str
    done: int
    total: int
    speed: float
    seconds: float
    quiet: float
    finished: bool
    lines: list[Line]
    resume: str
    unit: str = "steps"


class Watcher:
    """The directory of a run, a population, a sweep or one of its waves: its waves as they appear."""

    def __init__(self, directory: Path) -> None:
        """Raises ValueError where the directory holds none of these."""
        self.directory, values = directory, documents.read_config(directory, "run", "sweep", "wave", "population")
        self._kind, self._steps, self._title = values["kind"], values["total_steps"], f"{values['agent']} on {values['env']}"
        self._waves: dict[Path, WaveWatcher] = {}
        if self._kind == "sweep":
            self._settings = dict(enumerate(values["configurations"]))
            self._members = len(self._settings) * values["seeds"]
        else:
            members = folders.read_members(directory)[0]
            self._settings = {m.config or 0: {**m.hparams, **m.env_params} for m in members}
            self._members = len(members)

    def look(self) -> Look:
        """As it stands: a line for each seed, or for each configuration that has begun, the best first."""
        there = self._there()
        for wave in there:
            wave.read()
        begun = sum(len(wave.names) for wave in there)
        done = sum(wave.done * len(wave.names) for wave in there)
        total = sum(wave.total * len(wave.names) for wave in there) + self._steps * (self._members - begun)
        running = [wave for wave in there if not wave.finished]
        latest = max([wave.news for wave in there], default=(self.directory / CONFIG).stat().st_mtime)
        return Look(
            title=self._title,
            about=f"{self._about(there)}, {self.directory}",
            done=done,
            total=total,
            speed=sum(wave.speed for wave in running or there),
            seconds=sum(wave.seconds for wave in there),
            quiet=time.time() - latest,
            finished=(self.directory / SUMMARY).is_file(),
            lines=self._lines(there),
            resume=f"jaxrl resume {self.directory.parent.parent if self._kind == 'wave' else self.directory}",
        )

    def _there(self) -> list[WaveWatcher]:
        """Waves that are there."""
        paths = [path for _, path in waves.numbered(self.directory)] if self._kind == "sweep" else [self.directory]
        for path in paths:
            self._waves.setdefault(path, WaveWatcher(path))
        return [self._waves[path] for path in paths]

    def _about(self, there: list[WaveWatcher]) -> str:
        if self._kind == "sweep":
            over, count = sum(wave.finished for wave in there), len(self._settings)
            return f"{count} configurations × {self._members // count} seeds, {over} of {len(there)} waves finished"
        what = "seed" if self._kind == "run" else "member"
        return f"{self._members} {what}{'s' * (self._members > 1)}"

    def _lines(self, there: list[WaveWatcher]) -> list[Line]:
        """One for each label, whatever waves its members are in."""
        found: dict[str, list[tuple[Track, float]]] = {}
        for wave in there:
            for name, track in wave.tracks.items():
                found.setdefault(self._label(name), []).append((track, wave.share))
        lines = [mean_line(label, *map(list, zip(*theirs, strict=True))) for label, theirs in found.items()]
        return sorted(lines, key=lambda line: -_number(line.last["episode_return"])) if self._kind in SWEPT else lines

    def _label(self, name: Name) -> str:
        """What a member is shown as: its configuration in a sweep or a wave, else itself."""
        if self._kind not in SWEPT:
            return f"seed {name}" if isinstance(name, int) else f"member {name[0]} seed {name[1]}"
        config = name[0] if isinstance(name, tuple) else 0
        if config not in self._settings:
            raise InputError(f"{self.directory / CONFIG} is damaged: it has no configuration {config}")
        return f"{config}  {search_space.text(self._settings[config])}"


class TuningWatcher:
    """A tuning's directory: its trials, and, once it has begun, its confirmation."""

    def __init__(self, directory: Path) -> None:
        """Raises ValueError where the directory holds none."""
        self.directory, self._plan = directory, tunings.read(directory)

    def look(self) -> Look:
        """As it stands: a line for each trial, the best first; then that of the confirmation."""
        if (self.directory / CONFIRMATION / CONFIG).is_file():
            found = Watcher(self.directory / CONFIRMATION).look()
            about = f"confirmation on fresh seeds (configuration 0: the best, 1: before), {self.directory}"
            over = (self.directory / SUMMARY).is_file()
            return found._replace(about=about, finished=over, resume=f"jaxrl resume {self.directory}")
        settings, trials = self._plan.settings, studies.trials_of(self._plan, self.directory)
        lines = [_trial_line(trial, self._plan) for trial in trials]
        done = sum(trial.state.is_finished() for trial in trials)
        ends = [t for trial in trials for t in (trial.datetime_start, trial.datetime_complete) if t]
        seconds = (max(ends) - min(ends)).total_seconds() if ends else 0.0
        latest = max(ends).timestamp() if ends else (self.directory / CONFIG).stat().st_mtime
        return Look(
            title=f"{self._plan.base.agent} on {self._plan.base.env}",
            about=f"{settings.method}, {settings.seeds} seeds a trial, {self.directory}",
            done=done,
            total=max(settings.trials, done),
            speed=done / seconds if seconds else 0.0,
            seconds=seconds,
            quiet=time.time() - latest,
            finished=(self.directory / SUMMARY).is_file(),
            lines=sorted(lines, key=lambda line: -_number(line.last["eval_return"])),
            resume=f"jaxrl resume {self.directory}",
            unit="trials",
        )


def _trial_line(trial: Any, plan: studies.TuningPlan) -> Line:
    """A trial as a line; its curve is what it reached at each rung."""
    curve, value = list(trial.intermediate_values.values()), math.nan if trial.value is None else trial.value
    last = dict.fromkeys(NEWEST, math.nan) | {"eval_return": value}
    setting = {name: studies.value_of(axis, trial.params[name]) for name, axis in plan.axes.items() if name in trial.params}
    label = f"{trial.number}  {search_space.text(setting)}"
    return Line(label, float(trial.state.is_finished()), curve, last, studies.DIVERGED in trial.user_attrs)


def watcher(directory: Path) -> Watcher | TuningWatcher:
    """What looks at a directory of any kind. Raises ValueError where it is none of ours."""
    return TuningWatcher(directory) if documents.kind_of(directory) == "tuning" else Watcher(directory)


def mean_line(label: str, tracks: list[Track], shares: list[float]) -> Line:
    """Some members as one line: means over those that have a number, as far as all of them are."""
    length = min(len(track.returns) for track in tracks)
    returns = np.array([track.returns[:length] for track in tracks], float)
    known = np.isfinite(returns)
    some = known.any(0)
    curve = np.where(known, returns, 0).sum(0)[some] / known.sum(0)[some]
    last = {name: _mean([track.last.get(name) for track in tracks]) for name in NEWEST}
    diverged = sum(track.diverged for track in tracks)
    return Line(label, float(np.mean(shares)), curve.tolist(), last, diverged)


def _mean(values: list[float | None]) -> float:
    known = [x for x in values if x is not None]
    return sum(known) / len(known) if known else math.nan


def _number(x: float) -> float:
    return x if math.isfinite(x) else -math.inf
