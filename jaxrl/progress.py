"""How far a run is, on standard error: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

import rich.console
import rich.progress

LINE_EVERY = 5.0  # seconds between lines where there is no terminal


class Progress:
    """Context manager; `update` as often as there is news."""

    def __init__(self, label: str, total_steps: int, done_steps: int = 0) -> None:
        self._label, self._total = label, total_steps
        self._start, self._start_steps, self._last_line = time.perf_counter(), done_steps, -LINE_EVERY
        console = rich.console.Console(stderr=True)
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps  {task.fields[news]}"),
            rich.progress.TimeRemainingColumn(),
        )
        self._bar = rich.progress.Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(label, total=total_steps, completed=done_steps, news="compiling")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, steps: int, mean_return: float) -> None:
        """steps: environment steps done by each seed. mean_return: of the last episodes, over seeds; NaN for none."""
        now = time.perf_counter()
        rate = (steps - self._start_steps) / max(now - self._start, 1e-9)
        ended = f"return {mean_return:.1f}" if mean_return == mean_return else "no episode ended"
        news = f"{ended}  {rate:,.0f} steps/s a seed"
        self._bar.update(self._task, completed=steps, news=news)
        if self._bar.disable and (now - self._last_line >= LINE_EVERY or steps >= self._total):
            self._last_line = now
            share = 100 * steps / self._total
            print(f"{self._label}  {steps:,}/{self._total:,} steps ({share:.0f} %)  {news}", file=sys.stderr, flush=True)
