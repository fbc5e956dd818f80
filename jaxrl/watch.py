"""`jaxrl watch`: how far a run or a sweep is, in the terminal, out of its files alone; any process can look at any time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from jaxrl import rundir, search_space, sweepdir, tunedir, waves
from jaxrl.errors import InputError
from jaxrl.metrics import Row, name_of

QUIET = 60.0  # seconds without news after which a run may have stopped
SHOWN = 16  # members of a run, or configurations of a sweep, at most
LEVELS = "▁▂▃▄▅▆▇█"
SPARK = 24  # characters of a curve


def follow(directory: Path, every: float, once: bool) -> None:
    """Show a run or a sweep every so many seconds until it is finished or the user stops looking.

    once, or where there is no terminal: one look. Raises ValueError where the directory holds neither.
    """
    console, watched = Console(), watcher(directory)
    if once or not console.is_terminal:
        console.print(view(watched.look()))
        return
    look = watched.look()
    with Live(view(look), console=console, auto_refresh=False) as live:
        while not look.finished:
            time.sleep(every)
            look = watched.look()
            live.update(view(look), refresh=True)


class Line(NamedTuple):
    """A row of the table: a member, or a configuration's mean over its members. curve: returns in training, in order."""

    label: str
    members: int
    share: float
    curve: list[float]
    last: dict[str, float]
    diverged: int


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
        self.rows: dict[Any, list[Row]] = {name: [] for name in self.names}
        self.chunks: list[Row] = []

    def read(self) -> None:
        """Take up what is new."""
        anew, rows = self._metrics.read()
        if anew:
            self.rows = {name: [] for name in self.names}
        for row in rows:
            known = self.rows[name_of(row)]
            del known[row["iteration"] :]  # of a former process
            known.append(row)
        self.chunks += self._timing.read()[1]

    @property
    def finished(self) -> bool:
        """Whether its summary is written."""
        return (self.directory / rundir.SUMMARY).is_file()

    @property
    def done(self) -> int:
        """Environment steps of a member so far."""
        last = self.rows[self.names[-1]]
        return int(last[-1]["env_steps"]) if last else 0

    @property
    def total(self) -> int:
        """Environment steps of a member in the end: whole iterations."""
        first = next((rows[0]["env_steps"] for rows in self.rows.values() if rows), 1)
        return self.done if self.finished else -(-self.steps // first) * first

    @property
    def speed(self) -> float:
        """Environment steps of all members a second, of the last chunks."""
        late = self.chunks[-5:]
        seconds = sum(chunk["seconds"] for chunk in late)
        per = self.done / max(len(self.rows[self.names[-1]]), 1)
        return sum(chunk["iterations"] for chunk in late) * per * len(self.names) / seconds if seconds else 0.0

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return sum(chunk["seconds"] for chunk in self.chunks)

    @property
    def news(self) -> float:
        """When something was written last, seconds of the epoch."""
        files = [self.directory / name for name in (rundir.CONFIG, rundir.METRICS, rundir.TIMING)]
        return max(file.stat().st_mtime for file in files if file.is_file())

    def line(self, label: str, names: list[Any]) -> Line:
        """Some members as one line: the mean over them."""
        rows = [self.rows[name] for name in names]
        length = min(map(len, rows))
        returns = [_mean([r[i].get("episode_return") for r in rows]) for i in range(length)]
        last = {name: _mean([_last(r, name) for r in rows]) for name in ("episode_return", "eval_return", "loss")}
        diverged = sum(any(row["diverged"] for row in r) for r in rows)
        share = self.done / max(self.total, 1)
        return Line(label, len(names), share, [x for x in returns if math.isfinite(x)], last, diverged)

    def look(self) -> Look:
        """The run as it stands."""
        self.read()
        lines = [self.line(f"seed {name}" if isinstance(name, int) else f"{name}", [name]) for name in self.names]
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
        for wave in waves:
            for config in dict.fromkeys(name[0] for name in wave.names):
                names = [name for name in wave.names if name[0] == config]
                label = search_space.text(self.settings[config])
                yield wave.line(f"{config}  {label}", names)


def watcher(directory: Path) -> RunWatcher | SweepWatcher:
    """Of a run or of a sweep. Raises ValueError where the directory holds neither."""
    if tunedir.is_tuning(directory):
        raise InputError(f"{directory} is a tuning; jaxrl watch shows runs and sweeps")
    return SweepWatcher(directory) if sweepdir.is_sweep(directory) else RunWatcher(directory)


def view(look: Look) -> RenderableType:
    """A look as rich shows it."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right")
    share = look.done / max(look.total, 1)
    head.add_row(ProgressBar(total=1, completed=min(share, 1.0)), f"{100 * share:.0f} %  {look.done:,}/{look.total:,} steps")
    speed = look.done / look.seconds if look.finished and look.seconds else look.speed
    head.add_row(_status(look), f"{speed:,.0f} steps/s  {_clock(look.seconds)} of training")
    table = Table(expand=True, box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("return", "evaluated", "loss", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("return in training", no_wrap=True, min_width=SPARK)
    for line in look.lines[:SHOWN]:
        numbers = [_text(line.last[name]) for name in ("episode_return", "eval_return", "loss")]
        label = escape(line.label) + (f"  [red]{line.diverged} diverged[/red]" if line.diverged else "")
        table.add_row(label, *numbers, f"{100 * line.share:.0f} %", f"[cyan]{spark(line.curve)}[/cyan]")
    more = [f"and {len(look.lines) - SHOWN} more"] if len(look.lines) > SHOWN else []
    title = f"[bold]{escape(look.title)}[/bold]"
    return Panel(Group(head, "", table, *more), title=title, subtitle=escape(look.about), title_align="left")


def _status(look: Look) -> str:
    if look.finished:
        return "[green]finished[/green]"
    if look.quiet > QUIET:
        return f"[yellow]no news for {_clock(look.quiet)}[/yellow]; if it was stopped: {escape(look.resume)}"
    left = (look.total - look.done) / look.speed if look.speed else math.nan
    return f"training, {_clock(left)} to go" if math.isfinite(left) else "compiling"


def spark(values: list[float]) -> str:
    """A curve in SPARK characters, from its lowest to its highest value; each the mean of a part."""
    if not values:
        return ""
    parts = [float(np.mean(part)) for part in np.array_split(values, min(SPARK, len(values)))]
    low, span = min(parts), max(parts) - min(parts)
    return "".join(LEVELS[int((x - low) / span * (len(LEVELS) - 1)) if span else 0] for x in parts)


def _last(rows: list[Row], name: str) -> float | None:
    """The newest value that is a number."""
    return next((row[name] for row in reversed(rows) if row.get(name) is not None), None)


def _mean(values: list[float | None]) -> float:
    known = [x for x in values if x is not None]
    return sum(known) / len(known) if known else math.nan


def _number(x: float) -> float:
    return x if math.isfinite(x) else -math.inf


def _text(x: float) -> str:
    return f"{x:.4g}" if math.isfinite(x) else "–"


def _clock(seconds: float) -> str:
    """3 s, 4 min 5 s, 2 h 3 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
