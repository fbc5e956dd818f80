"""Files that grow while a wave trains, read as they grow."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.experiment.members import Name
from jaxrl.runs import directory as folders
from jaxrl.runs import documents, metrics
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.metrics import METRICS, METRICS_ROW, TIMING, TIMING_ROW, Row

NEWEST = ("episode_return", "eval_return", "loss")  # metrics of which the newest values are kept


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
    """A wave's directory: that of a run, a population, or a part of a sweep.

    tracks: of each member. done, total: environment steps of a member so far, and in the end (whole iterations). share: the
    one of the other. speed: environment steps of all members a second, of the last chunks. seconds: of training so far.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names: list[Name] = [member.name for member in folders.read_members(directory)[0]]
        self._steps = documents.read_config(directory)["total_steps"]
        self._metrics = Tail(directory / METRICS, METRICS_ROW)
        self._timing = Tail(directory / TIMING, TIMING_ROW)
        self.tracks: dict[Name, Track] = {name: Track() for name in self.names}
        self._chunks: list[Row] = []

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
        self._chunks += self._timing.read()[1]
        last, late = self.tracks[self.names[-1]], self._chunks[-5:]
        per_iteration = last.steps // max(len(last.returns), 1)
        self.done, whole = last.steps, -(-self._steps // (per_iteration or 1)) * (per_iteration or 1)
        self.total = self.done if self.finished else whole
        self.share = self.done / max(self.total, 1)
        self.seconds = sum(chunk["seconds"] for chunk in self._chunks)
        took = sum(chunk["seconds"] for chunk in late)
        trained = sum(chunk["iterations"] for chunk in late) * per_iteration * len(self.names)
        self.speed = trained / took if took else 0.0

    @property
    def finished(self) -> bool:
        """Whether its summary is written."""
        return (self.directory / SUMMARY).is_file()

    @property
    def news(self) -> float:
        """When something was written last, seconds of the epoch."""
        files = [self.directory / name for name in (CONFIG, METRICS, TIMING)]
        return max(file.stat().st_mtime for file in files if file.is_file())
