"""How far a run is, on standard error: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time

import numpy as np
import rich.console
import rich.progress

from jaxrl.runs.callbacks import Event, RowCallback
from jaxrl.runs.driver import Training

LINE_EVERY = 5.0  # seconds between lines where there is no terminal


def say(text: str, *, result: bool = False) -> None:
    """Print to standard error, a result to standard output; training goes on where nobody reads it any more."""
    stream = sys.stdout if result else sys.stderr
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Bar:
    """Context manager; `update` as often as there is news. unit: of what is counted; value: what the news is."""

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "steps", value: str = "return") -> None:
        self._label, self._total, self._unit, self._value = label, total, unit, value
        self._start, self._start_done, self._last_line = time.perf_counter(), done, -LINE_EVERY
        console = rich.console.Console(stderr=True)
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}  {task.fields[news]}"),
            rich.progress.TimeRemainingColumn(),
        )
        self._bar = rich.progress.Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(label, total=total, completed=done, news="compiling", unit=unit)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, value: float) -> None:
        """done: so far, environment steps of each seed. value: a return, of the last episodes over seeds; NaN for none."""
        now = time.perf_counter()
        rate = (done - self._start_done) / max(now - self._start, 1e-9)
        news = f"{self._value} {value:.1f}" if value == value else f"no {self._value} yet"
        if self._unit == "steps":
            news += f"  {rate:,.0f} steps/s a seed"
        self._bar.update(self._task, completed=done, news=news)
        if self._bar.disable and (now - self._last_line >= LINE_EVERY or done >= self._total):
            self._last_line = now
            share = f"{done:,}/{self._total:,} {self._unit} ({100 * done / self._total:.0f} %)"
            say(f"{self._label}  {share}  {news}")


class Progress(RowCallback):
    """Shows the environment steps of a wave's members, and the mean of their newest returns in training."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Bar | None = None

    def start(self, training: Training) -> None:
        """Show where training stands."""
        self._bar = Bar(self._label, training.trainer.total_steps, training.env_steps).__enter__()

    def update(self, event: Event) -> None:
        """Show the newest return of each member, averaged."""
        last = event.chunks[-1].metrics["episode_return"]
        known = [row[np.isfinite(row)][-1] for row in last if np.isfinite(row).any()]
        if self._bar:
            self._bar.update(event.env_steps, float(np.mean(known)) if known else math.nan)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.__exit__()
