"""`jaxrl watch`: how far a run or a sweep is, in the terminal, out of its files alone; any process can look at any time."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape as markup_escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from jaxrl.core.errors import printable
from jaxrl.core.numbers import readable
from jaxrl.show.watchers import Look, watcher

QUIET = 60.0  # seconds without news after which a run may have stopped
SHOWN = 16  # members of a run, or configurations of a sweep, at most
LEVELS = "▁▂▃▄▅▆▇█"
SPARK = 24  # characters of a curve
COLUMNS = {"return": "episode_return", "evaluated": "eval_return", "loss": "loss"}  # those of which there is a number


def follow(directory: Path, every: float, once: bool) -> None:
    """Show a directory every so many seconds until it is finished or the user stops looking.

    once, or where there is no terminal: one look. Raises ValueError where it is none of ours.
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


def view(look: Look) -> RenderableType:
    """A look as rich shows it."""
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1)
    head.add_column(justify="right")
    share = look.done / max(look.total, 1)
    head.add_row(
        ProgressBar(total=1, completed=min(share, 1.0)), f"{100 * share:.0f} %  {look.done:,}/{look.total:,} {look.unit}"
    )
    speed = look.done / look.seconds if look.finished and look.seconds else look.speed
    head.add_row(_status(look), f"{_speed(speed)} {look.unit}/s  {_clock(look.seconds)} of training")
    table = Table(expand=True, box=None, header_style="bold", pad_edge=False)
    table.add_column("", overflow="fold", ratio=1)
    known = {name: key for name, key in COLUMNS.items() if any(math.isfinite(line.last[key]) for line in look.lines)}
    for name in (*known, "done"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("return in training", no_wrap=True, min_width=SPARK)
    for line in look.lines[:SHOWN]:
        numbers = [readable(line.last[key]) for key in known.values()]
        label = escape(line.label) + (f"  [red]{line.diverged} diverged[/red]" if line.diverged else "")
        table.add_row(label, *numbers, f"{100 * line.share:.0f} %", f"[cyan]{spark(line.curve)}[/cyan]")
    more = [f"and {len(look.lines) - SHOWN} more"] if len(look.lines) > SHOWN else []
    title = f"[bold]{escape(look.title)}[/bold]"
    return Panel(Group(head, "", table, *more), title=title, subtitle=escape(look.about), title_align="left")


def escape(text: str) -> str:
    """Text that neither rich nor the terminal takes for commands: control characters are shown, not sent."""
    return markup_escape(printable(text))


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


def _speed(x: float) -> str:
    return f"{x:,.0f}" if x >= 10 else readable(x)


def _clock(seconds: float) -> str:
    """3 s, 4 min 5 s, 2 h 3 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
