"""The pictures of a directory, of any kind: those that training leaves in it, and those that `jaxrl plot` draws anew."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import RENDER, stream
from jaxrl.core.types import EnvSpec
from jaxrl.runs import documents
from jaxrl.runs.directory import CURVE, CURVES, EFFECTS, GIF, TRIALS, VALUES
from jaxrl.runs.documents import SUMMARY
from jaxrl.show import configurations, labels, plot, render, sweep_plot, tune_plot, value_map
from jaxrl.show.configurations import Result
from jaxrl.show.labels import Shown
from jaxrl.sweeps import reading
from jaxrl.sweeps.result import RunResult, SweepResult
from jaxrl.tuning import directory as tunings
from jaxrl.tuning import population
from jaxrl.tuning.directory import TuningResult
from jaxrl.tuning.population import PopulationResult
from jaxrl.tuning.studies import TuningPlan

NAMES = {"run": CURVE, "sweep": CURVES, "wave": CURVES, "tuning": TRIALS, "population": TRIALS}  # by a directory's kind


def draw(result: RunResult | SweepResult, folder: Path) -> None:
    """A run's learning curve, its first policy on film, and its action values where observations are discrete.

    Of a sweep: learning curves, and the effects of its settings.
    """
    for _ in _drawn(result, folder / (CURVES if isinstance(result, SweepResult) else CURVE)):
        pass
    if isinstance(result, RunResult):
        trainer, state = result.agent(0)
        render.policy_gif(trainer, state, stream(state.key, RENDER), folder / GIF)


def _drawn(result: Result, out: Path) -> Iterator[Path]:
    """Draws curves, and beside them effects or values; gives each picture."""
    found, base = configurations.of(result), configurations.base_of(result)
    title = f"{base.agent} on {base.env}"
    if isinstance(result, SweepResult) or len(found) > 1:
        if isinstance(result, SweepResult) and out == out.with_name(EFFECTS):
            raise InputError(f"--out {out} is for the curves; {EFFECTS} is written beside it, give another name")
        sweep_plot.curves(found, title, out)
        yield out
        if isinstance(result, SweepResult):
            sweep_plot.effects(found, title, out.with_name(EFFECTS))
            yield out.with_name(EFFECTS)
        return
    plot.compare([sweep_plot.curve_of(found[0])._replace(label="training")], out, title)
    yield out
    table = _values(result)
    if table:
        value_map.picture(*table, out.with_name(VALUES))
        yield out.with_name(VALUES)


def _values(result: RunResult) -> tuple[EnvSpec, np.ndarray] | None:
    """What `value_map.picture` needs, of the first member; None without a table or, with a warning, without a checkpoint."""
    try:
        return value_map.of(*result.agent(0))
    except InputError as error:  # a curve needs less: it is drawn of a run without a checkpoint too
        warnings.warn(f"action values are not drawn: {error}", stacklevel=2)
        return None


def place(directories: Sequence[Path]) -> Path:
    """Where pictures of these go: beside the results of one, curves.png here for several. Raises ValueError."""
    kinds = [documents.kind_of(directory) for directory in directories]
    return directories[0] / NAMES[kinds[0]] if len(directories) == 1 else Path(CURVES)


def redraw(directories: Sequence[Path], out: Path) -> Iterator[Path]:
    """Draw the pictures of one directory anew, or compare several in one; gives each picture. Raises ValueError."""
    first = directories[0]
    if len(directories) > 1:
        yield compared(directories, out)
    elif documents.kind_of(first) in tunings.KINDS:
        yield _redrawn_tuning(first, out)
    else:
        yield from _drawn(reading.load(first), out)


def compared(directories: Sequence[Path], out: Path) -> Path:
    """The best configuration of each directory, in one picture; of a tuning that of its confirmation."""
    results = [tunings.load(directory) for directory in directories]
    shown = [Shown(configurations.base_of(r), {}, d) for r, d in zip(results, directories, strict=True)]
    found = map(configurations.of, results)
    curves = [sweep_plot.best_curve(c, label) for c, label in zip(found, labels.labels(shown), strict=True)]
    plot.compare(curves, out, labels.title(shown))
    return out


def draw_tuning(plan: TuningPlan, found: TuningResult, folder: Path) -> None:
    """A tuning's trials, or a population's rounds."""
    if isinstance(found, PopulationResult):
        return tune_plot.population(found, plan.axes, folder / TRIALS, _title(plan))
    best, before = (None, None) if found.confirmation is None else found.confirmation.final_return.mean(1).tolist()
    tune_plot.trials(found.trials, plan.axes, before, folder / TRIALS, _title(plan), best)


def _redrawn_tuning(directory: Path, out: Path) -> Path:
    """The same, of a finished directory."""
    plan = tunings.read(directory)
    if not (directory / SUMMARY).is_file():
        raise InputError(f"{directory} is not finished; go on with: jaxrl resume {directory}")
    if plan.settings.method == "pbt":
        tune_plot.population(population.load(plan, directory), plan.axes, out, _title(plan))
        return out
    said = documents.read(directory / SUMMARY, {"trials": list[dict], "confirmation": dict | None})
    best, before = ((said["confirmation"] or {}).get(name, {}).get("mean") for name in ("best", "before"))
    tune_plot.trials(said["trials"], plan.axes, before, out, _title(plan), best)
    return out


def _title(plan: TuningPlan) -> str:
    settings = plan.settings
    pbt = f"{settings.population} members, {settings.rounds} rounds"
    what = pbt if settings.method == "pbt" else f"{settings.trials} trials"
    return f"{plan.base.agent} on {plan.base.env}, {settings.method}: {what}"
