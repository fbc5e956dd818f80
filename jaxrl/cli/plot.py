"""`jaxrl plot`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.cli import flags
from jaxrl.cli.options import PlotOptions
from jaxrl.core.errors import InputError
from jaxrl.devices import platform
from jaxrl.runs import documents
from jaxrl.runs.directory import CURVE, CURVES, EFFECTS, VALUES

PICTURES = (".png", ".pdf", ".svg")


def main(args: Sequence[str]) -> int:
    """Draw the pictures of a run or a sweep anew, or several into one."""
    options = flags.parse(PlotOptions, args, "jaxrl plot")
    if not options.dirs:
        raise InputError("jaxrl plot needs at least one directory of a run or a sweep")
    platform.configure(1)
    first, alone = options.dirs[0], len(options.dirs) == 1
    kinds = [documents.read_config(directory, "run", "sweep")["kind"] for directory in options.dirs]
    out = options.out or (first / (CURVES if kinds[0] == "sweep" else CURVE) if alone else Path("curves.png"))
    flags.check_writable("--out", out, PICTURES)

    from jaxrl.sweeps import reading

    results = [reading.load(directory) for directory in options.dirs]
    for picture in _draw(results, options.dirs, out):
        print(picture)
    return 0


def _draw(results: Sequence[Any], directories: Sequence[Path], out: Path) -> Iterator[Path]:
    """Gives what was drawn: of one sweep also the effects of its settings, of one run its action values if it has some."""
    from jaxrl.show import plot, sweep_plot, value_map
    from jaxrl.sweeps.result import SweepResult

    first = results[0]
    if len(results) > 1 or not isinstance(first, SweepResult):
        sweeps = [result if isinstance(result, SweepResult) else result.sweep for result in results]
        plot.compare([sweep_plot.best_curve(result) for result in sweeps], directories, out)
        yield out
        found = value_map.of_run(first) if len(results) == 1 else None
        if found:
            value_map.picture(*found, out.with_name(VALUES))
            yield out.with_name(VALUES)
        return
    beside = out.with_name(EFFECTS)
    if out == beside:
        raise InputError(f"--out {out} is for the curves; {EFFECTS} is written beside it, give another name")
    sweep_plot.curves(first, out)
    yield out
    sweep_plot.effects(first, beside)
    yield beside
