"""How far training is, on standard error: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import rich.console
import rich.progress

from jaxrl.core.numbers import readable
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


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return rich.console.Console(stderr=True).is_terminal


class Bar:
    """A context manager that shows a count; `update` it as often as there is news.

    unit: of what is counted. value: what the number beside it is called.
    """

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "steps", value: str = "return") -> None:
        self._label, self._total, self._unit, self._value, self._last_line = label, total, unit, value, -LINE_EVERY
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

    def update(self, done: int, value: float, more: str = "") -> None:
        """done: so far. value: the newest, NaN for none yet. more: said behind it."""
        news = (f"{self._value} {readable(value)}" if value == value else f"no {self._value} yet") + more
        self._bar.update(self._task, completed=done, news=news)
        now = time.perf_counter()
        if self._bar.disable and (now - self._last_line >= LINE_EVERY or done >= self._total):
            self._last_line = now
            share = f"{done:,}/{self._total:,} {self._unit} ({100 * done / self._total:.0f} %)"
            say(f"{self._label}  {share}  {news}")


class Progress(RowCallback):
    """Shows the environment steps of a wave's members, their rate, and the mean of the newest returns in training.

    The rate is that of training in this process, without compiling and evaluating.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Bar | None = None
        self._steps, self._seconds, self._return = 0, 0.0, np.nan  # a chunk may be too short for an episode to end

    def start(self, training: Training) -> None:
        self._bar = Bar(self._label, training.trainer.total_steps, training.env_steps).__enter__()

    def update(self, event: Event) -> None:
        self._steps += sum(chunk.count for chunk in event.chunks) * event.training.trainer.steps_per_iteration
        self._seconds += sum(chunk.seconds for chunk in event.chunks)
        last = event.chunks[-1].metrics["episode_return"]
        known = [row[np.isfinite(row)][-1] for row in last if np.isfinite(row).any()]
        rate = f"  {self._steps / max(self._seconds, 1e-9):,.0f} steps/s a seed"
        self._return = float(np.mean(known)) if known else self._return
        if self._bar:
            self._bar.update(event.env_steps, self._return, more=rate)

    def close(self) -> None:
        if self._bar:
            self._bar.__exit__()
