"""What the files of a run or a sweep tell while it trains: how far it is, and how it does. Nothing is written."""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.experiment import search_space
from jaxrl.runs import rundir
from jaxrl.runs.metrics import Row, name_of
from jaxrl.sweeps import sweepdir, waves
from jaxrl.tuning import tunedir

METRICS = ("episode_return", "eval_return", "loss")  # of which the newest values are kept


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
        value = row["episode_return"]
        del self.returns[row["iteration"] :]
        self.returns.append(math.nan if value is None else value)
        self.last |= {name: row[name] for name in METRICS if row.get(name) is not None}
        self.steps, self.diverged = row["env_steps"], self.diverged or row["diverged"]


class Look(NamedTuple):
    """What is shown. done, total: environment steps of all members. speed: those of a second, lately.

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


class Tail:
    """The JSON lines of a file that grows; `read` gives what is new. A resumed run cuts its file: then all is read again."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def read(self) -> tuple[bool, list[Row]]:
        """Whether it starts anew, and the rows; a last line not yet whole is left for the next time."""
        if not self._path.is_file():
            return False, []
        anew = self._path.stat().st_size < self._at
        try:
            return anew, self._rows(0 if anew else self._at)
        except ValueError:  # cut, and longer again than it was: what was the end of a line is none now
            try:
                return True, self._rows(0)
            except ValueError as error:
                raise InputError(f"{self._path} is damaged: {error}") from error

    def _rows(self, start: int) -> list[Row]:
        with open(self._path, "rb") as file:
            file.seek(start)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        found = [json.loads(line) for line in whole.splitlines()]
        self._at = start + len(whole)
        return found


class RunWatcher:
    """A run directory, or a wave of a sweep."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.config = directory, rundir.read_config(directory)
        try:
            self.names: list[Any] = [name_of(rundir.Member(**member).label) for member in self.config["members"]]
            self.steps = int(self.config["total_steps"])
            self.title = f"{self.config['agent']} on {self.config['env']}"
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{directory / rundir.CONFIG} is damaged: {error!r}") from error
        self._metrics, self._timing = Tail(directory / rundir.METRICS), Tail(directory / rundir.TIMING)
        self.tracks: dict[Any, Track] = {name: Track() for name in self.names}
        self.chunks: list[Row] = []

    def read(self) -> None:
        """Take up what is new. Raises ValueError for rows that are none of a run's."""
        anew, rows = self._metrics.read()
        if anew:
            self.tracks = {name: Track() for name in self.names}
        try:
            for row in rows:
                self.tracks[name_of(row)].add(row)
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.directory / rundir.METRICS} is damaged: {error!r}") from error
        self.chunks += self._timing.read()[1]

    @property
    def finished(self) -> bool:
        """Whether its summary is written."""
        return (self.directory / rundir.SUMMARY).is_file()

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
        files = [self.directory / name for name in (rundir.CONFIG, rundir.METRICS, rundir.TIMING)]
        return max(file.stat().st_mtime for file in files if file.is_file())

    @property
    def share(self) -> float:
        """How far it is, 0 to 1."""
        return self.done / max(self.total, 1)

    def look(self) -> Look:
        """The run as it stands."""
        self.read()
        lines = [mean_line(label_of(name), [track], [self.share]) for name, track in self.tracks.items()]
        count = len(self.names)
        about = f"{count} seed{'s' * (count > 1)}, {self.directory}"
        done, total, quiet = self.done * count, self.total * count, time.time() - self.news
        resume = f"jaxrl resume {self.directory}"
        return Look(self.title, about, done, total, self.speed, self.seconds, quiet, self.finished, lines, resume)


class SweepWatcher:
    """A sweep directory: its waves as they appear."""

    def __init__(self, directory: Path) -> None:
        self.directory, values = directory, sweepdir.read_plan_json(directory)
        try:
            self.settings, self.seeds = values["settings"], int(values["seeds"])
            self.steps = int(values["experiment"]["total_steps"])
            self.title = f"{values['experiment']['agent']} on {values['experiment']['env']}"
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{directory / sweepdir.SWEEP} is damaged: {error!r}") from error
        self._waves: dict[Path, RunWatcher] = {}

    def waves(self) -> Iterator[RunWatcher]:
        """Those that are there."""
        for path in sorted((self.directory / waves.WAVES).glob(f"*/{rundir.CONFIG}")):
            if path not in self._waves:
                self._waves[path] = RunWatcher(path.parent)
            yield self._waves[path]

    def look(self) -> Look:
        """The sweep as it stands: a line for each configuration that has begun, the best first."""
        waves = list(self.waves())
        for wave in waves:
            wave.read()
        members = len(self.settings) * self.seeds
        begun = sum(len(wave.names) for wave in waves)
        done = sum(wave.done * len(wave.names) for wave in waves)
        total = sum(wave.total * len(wave.names) for wave in waves) + self.steps * (members - begun)
        running = [wave for wave in waves if not wave.finished]
        lines = sorted(self._lines(waves), key=lambda line: -_number(line.last["episode_return"]))
        finished = (self.directory / sweepdir.SUMMARY).is_file()
        latest = max([wave.news for wave in waves], default=(self.directory / sweepdir.SWEEP).stat().st_mtime)
        over = sum(wave.finished for wave in waves)
        about = f"{len(self.settings)} configurations × {self.seeds} seeds, {over} of {len(waves)} waves finished"
        seconds, speed = sum(wave.seconds for wave in waves), sum(wave.speed for wave in running)
        resume = f"jaxrl resume {self.directory}"
        about += f", {self.directory}"
        return Look(self.title, about, done, total, speed, seconds, time.time() - latest, finished, lines, resume)

    def _lines(self, waves: list[RunWatcher]) -> Iterator[Line]:
        """One for each configuration, whatever waves its members are in."""
        found: dict[int, list[tuple[Track, float]]] = {}
        for wave in waves:
            for name, track in wave.tracks.items():
                found.setdefault(name[0], []).append((track, wave.share))
        for config, theirs in found.items():
            tracks, shares = zip(*theirs, strict=True)
            yield mean_line(f"{config}  {search_space.text(self.settings[config])}", list(tracks), list(shares))


def label_of(name: Any) -> str:
    """A member's name as a person reads it."""
    return f"seed {name}" if isinstance(name, int) else f"config {name[0]} seed {name[1]}"


def mean_line(label: str, tracks: list[Track], shares: list[float]) -> Line:
    """Some members as one line: means over those that have a number, as far as all of them are."""
    length = min(len(track.returns) for track in tracks)
    returns = np.array([track.returns[:length] for track in tracks], float)
    known = np.isfinite(returns)
    some = known.any(0)
    curve = np.where(known, returns, 0).sum(0)[some] / known.sum(0)[some]
    last = {name: _mean([track.last.get(name) for track in tracks]) for name in METRICS}
    diverged = sum(track.diverged for track in tracks)
    return Line(label, float(np.mean(shares)), curve.tolist(), last, diverged)


def watcher(directory: Path) -> RunWatcher | SweepWatcher:
    """Of a run or of a sweep. Raises ValueError where the directory holds neither."""
    if tunedir.is_tuning(directory):
        raise InputError(f"{directory} is a tuning; jaxrl watch shows runs and sweeps")
    return SweepWatcher(directory) if sweepdir.is_sweep(directory) else RunWatcher(directory)


def _mean(values: list[float | None]) -> float:
    known = [x for x in values if x is not None]
    return sum(known) / len(known) if known else math.nan


def _number(x: float) -> float:
    return x if math.isfinite(x) else -math.inf
