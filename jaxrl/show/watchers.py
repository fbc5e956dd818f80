"""What the files of a directory tell while it trains: how far it is, and how it does. Nothing is written."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.experiment import search_space
from jaxrl.experiment.members import Name
from jaxrl.runs import directory as folders
from jaxrl.runs import documents, metrics
from jaxrl.runs.directory import CONFIRMATION
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.metrics import METRICS, METRICS_ROW, TIMING, TIMING_ROW, Row
from jaxrl.sweeps import waves
from jaxrl.tuning import directory as tunings
from jaxrl.tuning import studies

NEWEST = ("episode_return", "eval_return", "loss")  # metrics of which the newest values are kept


class Line(NamedTuple):
    """A row of the table: a member, or a configuration's mean over its members. curve: returns in training, in order."""

    label: str
    share: float
    curve: list[float]
    last: dict[str, float]
    diverged: int


class Track:
    """What is kept of a member's rows. steps: environment steps so far; returns: of each iteration, NaN without one."""

    def __init__(self) -> None:
        self.steps, self.diverged = 0, False
        self.returns = array("f")
        self.last: dict[str, float] = {}

    def add(self, row: Row) -> None:
        """Take up a row; those from its iteration on that are known are a former process's."""
        value = row.get("episode_return")
        del self.returns[row["iteration"] :]
        self.returns.append(math.nan if value is None else value)
        self.last |= {name: row[name] for name in NEWEST if row.get(name) is not None}
        self.steps, self.diverged = row["env_steps"], self.diverged or row["diverged"]


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


class Tail:
    """The JSON lines of a file that grows; `read` gives what is new. A resumed run cuts its file: then all is read again."""

    def __init__(self, path: Path, schema: Mapping[str, Any]) -> None:
        self._path, self._schema, self._at = path, schema, 0

    def read(self) -> tuple[bool, list[Row]]:
        """Whether it starts anew, and the rows; a last line not yet whole is left for the next time."""
        if not self._path.is_file():
            return False, []
        anew = self._path.stat().st_size < self._at
        try:
            return anew, self._rows(0 if anew else self._at)
        except InputError:  # cut, and longer again than it was: what was the end of a line is none now
            if self._at == 0:
                raise
            return True, self._rows(0)

    def _rows(self, start: int) -> list[Row]:
        with open(self._path, "rb") as file:
            file.seek(start)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        found = [metrics.parsed(line, str(self._path), self._schema) for line in whole.splitlines()]
        self._at = start + len(whole)
        return found


class WaveWatcher:
    """A wave's directory: that of a run, a population, or a part of a sweep."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names: list[Name] = [member.name for member in folders.read_members(directory)[0]]
        self.steps = documents.read_config(directory)["total_steps"]
        self._metrics = Tail(directory / METRICS, METRICS_ROW)
        self._timing = Tail(directory / TIMING, TIMING_ROW)
        self.tracks: dict[Name, Track] = {name: Track() for name in self.names}
        self.chunks: list[Row] = []

    def read(self) -> None:
        """Take up what is new. Raises ValueError for rows that are none of a run's."""
        anew, rows = self._metrics.read()
        if anew:
            self.tracks = {name: Track() for name in self.names}
        for row in rows:
            name = metrics.name_of(row)
            if name not in self.tracks:
                raise InputError(f"{self.directory / METRICS} is damaged: it has a row of {name}, which is no member")
            self.tracks[name].add(row)
        self.chunks += self._timing.read()[1]

    @property
    def finished(self) -> bool:
        """Whether its summary is written."""
        return (self.directory / SUMMARY).is_file()

    @property
    def done(self) -> int:
        """Environment steps of a member so far."""
        return self.tracks[self.names[-1]].steps

    @property
    def per_iteration(self) -> int:
        """Environment steps of a member; 0 before the first row."""
        return self.done // max(len(self.tracks[self.names[-1]].returns), 1)

    @property
    def total(self) -> int:
        """Environment steps of a member in the end: whole iterations."""
        per = self.per_iteration or 1
        return self.done if self.finished else -(-self.steps // per) * per

    @property
    def speed(self) -> float:
        """Environment steps of all members a second, of the last chunks."""
        late = self.chunks[-5:]
        seconds = sum(chunk["seconds"] for chunk in late)
        iterations = sum(chunk["iterations"] for chunk in late)
        return iterations * self.per_iteration * len(self.names) / seconds if seconds else 0.0

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return sum(chunk["seconds"] for chunk in self.chunks)

    @property
    def news(self) -> float:
        """When something was written last, seconds of the epoch."""
        files = [self.directory / name for name in (CONFIG, METRICS, TIMING)]
        return max(file.stat().st_mtime for file in files if file.is_file())

    @property
    def share(self) -> float:
        """How far it is, 0 to 1."""
        return self.done / max(self.total, 1)


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
            self._settings = {m.config: {**m.hparams, **m.env_params} for m in members}
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
            lines=list(self._lines(there)),
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

    def _lines(self, there: list[WaveWatcher]) -> Iterator[Line]:
        """One for each configuration of a sweep or a wave, whatever waves its members are in; else one for each member."""
        if self._kind not in ("sweep", "wave"):
            for wave in there:
                yield from (mean_line(label_of(name), [track], [wave.share]) for name, track in wave.tracks.items())
            return
        found: dict[int, list[tuple[Track, float]]] = {}
        for wave in there:
            for name, track in wave.tracks.items():
                found.setdefault(name[0] if isinstance(name, tuple) else 0, []).append((track, wave.share))
        lines = []
        for config, theirs in found.items():
            if config not in self._settings:
                raise InputError(f"{self.directory / CONFIG} is damaged: it has no configuration {config}")
            tracks, shares = zip(*theirs, strict=True)
            label = f"{config}  {search_space.text(self._settings[config])}"
            lines.append(mean_line(label, list(tracks), list(shares)))
        yield from sorted(lines, key=lambda line: -_number(line.last["episode_return"]))


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


def label_of(name: Name) -> str:
    """A member's name as a person reads it."""
    return f"seed {name}" if isinstance(name, int) else f"config {name[0]} seed {name[1]}"


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
