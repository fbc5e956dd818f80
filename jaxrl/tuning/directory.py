"""A tuning, from its settings to its result: in memory, or in a directory that can be gone on with.

config.json       every setting, what is varied, versions (kind "tuning", or "population" for method pbt)
study.db          the Optuna study (unless another storage was named); confirmation/: a sweep's directory
metrics.jsonl, checkpoints/    of a population, which is a wave; rounds.jsonl: scores, parents, hyper-parameters by round
summary.json      the finished tuning's result; trials.png: its picture
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.runs import directory as folders
from jaxrl.runs import documents, metrics, weights
from jaxrl.runs.directory import CONFIRMATION
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.driver import Interruption, Stop, stop_signals
from jaxrl.runs.progress import Bar, say
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import reading
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.result import RunResult, SweepResult
from jaxrl.sweeps.waves import DEFAULTS, Options
from jaxrl.tuning import population, search, studies
from jaxrl.tuning.population import PopulationResult
from jaxrl.tuning.search import TuneResult
from jaxrl.tuning.studies import Tuning, TuningPlan

KINDS = ("tuning", "population")
SETTINGS = tuple(field.name for field in dataclasses.fields(Tuning))
TuningResult = TuneResult | PopulationResult
Drawing = Callable[[TuningPlan, TuningResult, Path], None]


def make_plan(
    base: Experiment, varied: Mapping[str, Any] | None, settings: Mapping[str, Any], storage: str | None
) -> TuningPlan:
    """Checked. Raises ValueError naming what is wrong."""
    plan = TuningPlan(base, search.make_axes(base, varied or {}), studies.make_settings(settings), storage)
    if plan.settings.method == "pbt":
        population.check(plan)
        if storage:
            raise InputError(f"storage {storage!r} beside method = 'pbt', which has no study")
    else:
        studies.require_optuna()
    return plan


def in_memory(plan: TuningPlan) -> TuningResult:
    """Tune without writing anything (but into a storage that is named)."""
    return _tune(plan, None, DEFAULTS, Stop())


def train(
    plan: TuningPlan, folder: Path, options: Options = DEFAULTS, overwrite: bool = False, draw: Drawing | None = None
) -> tuple[dict[str, Any], TuningResult]:
    """Tune into a new directory: the summary and the result. Raises ValueError before anything is compiled or written."""
    plan.base.check_rebuildable()
    if plan.storage:
        studies.open_study(plan, plan.storage)  # refused here if it cannot be
    population_wave = population.wave_of(plan, folder) if plan.settings.method == "pbt" else None
    values = {
        "kind": "population" if population_wave else "tuning",
        **plan.base.to_json(),
        "search": {name: search_space.axis_text(axis) for name, axis in plan.axes.items()},
        "tuning": dataclasses.asdict(plan.settings),
        "storage": plan.storage,
        **weights.describe(plan.base, plan.base.trainer()),
        **(folders.describe(population_wave) if population_wave else {}),
        **folders.about(),
    }
    folders.create(folder, values, overwrite)
    for line in weights.lines(plan.base, plan.base.trainer()):
        say(f"jaxrl: {line}")
    return _finish(plan, folder, options, draw)


def read(folder: Path, anyway: bool = False) -> TuningPlan:
    """The plan of a tuning's directory. Raises ValueError where it is none of ours, or damaged."""
    values = documents.read_config(folder, *KINDS)
    base = folders.read_experiment(folder, values, anyway)
    try:
        return make_plan(base, values["search"], values["tuning"], values["storage"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / CONFIG} is damaged: {error!r}") from error


def resume(folder: Path, options: Options = DEFAULTS, draw: Drawing | None = None) -> tuple[dict[str, Any], TuningResult]:
    """Go on with a tuning: trials that were told stay, those that were running are tried again."""
    plan = read(folder, options.anyway)
    if plan.settings.method == "pbt":
        folders.check_here(folder, folders.read_members(folder)[1], options.anyway)
    return _finish(plan, folder, options, draw)


def load(folder: Path, *, best: bool = False, anyway: bool = False) -> RunResult | SweepResult | PopulationResult:
    """What was trained into a directory of any kind; of a tuning its confirmation, with the best setting first."""
    kind = documents.kind_of(folder)
    if kind == "population":
        if best:
            raise InputError(f"{folder} has no policies kept by keep_best: it is a population")
        return population.load(read(folder, anyway), folder)
    if kind == "tuning":
        if not (folder / CONFIRMATION / CONFIG).is_file():
            if not read(folder, anyway).settings.confirm:
                raise InputError(f"{folder} keeps no policies: it was tuned with confirm = 0")
            raise InputError(f"{folder} has no policies before its confirmation; go on with: jaxrl resume {folder}")
        folder = folder / CONFIRMATION
    return reading.load(folder, best=best, anyway=anyway)


def _finish(plan: TuningPlan, folder: Path, options: Options, draw: Drawing | None) -> tuple[dict[str, Any], TuningResult]:
    begin = time.perf_counter()
    if not options.anyway:
        weights.check_unchanged(folder, plan.base)
    with folders.held(folder), stop_signals() as stop:
        try:
            found = _tune(plan, folder, options, stop)
        except Interruption as stopped:
            reason = str(stopped).partition(";")[0]
            raise Interruption(f"{reason}; go on with: jaxrl resume {folder}", stopped.number) from None
        summary = _summary(plan, found) | {"run_s": round(time.perf_counter() - begin, 3), "out": str(folder)}
        sweeps.drawn(draw, plan, found, folder)
        documents.write(folder / SUMMARY, summary)
        return summary, found


def _tune(plan: TuningPlan, folder: Path | None, options: Options, stop: Stop) -> TuningResult:
    """Train the population; or search to the last trial, with progress on standard error, and confirm the best setting."""
    if plan.settings.method == "pbt":
        return population.train(plan, folder, options, stop)
    study = studies.open_study(plan, plan.storage or (studies.storage_of(folder) if folder else None))
    label, trials = f"tune {plan.base.agent} on {plan.base.env}", plan.settings.trials
    with Bar(label, trials, unit="trials", value="best") as bar:
        programs, steps = search.search(plan, study, bar.update, stop)
    found = search.result(plan, study, programs, steps)
    if not plan.settings.confirm:
        return found
    return dataclasses.replace(found, confirmation=_confirm(search.confirmation_plan(plan, found.best), folder, options))


def _confirm(plan: Plan, folder: Path | None, options: Options) -> SweepResult:
    if folder is None:
        return sweeps.in_memory(plan)
    where = folder / CONFIRMATION
    if (where / CONFIG).is_file():
        sweeps.resume(where, options)
    else:
        sweeps.train(plan, where, options)
    found = reading.load(where)
    assert isinstance(found, SweepResult)
    return found


def _summary(plan: TuningPlan, found: TuningResult) -> dict[str, Any]:
    """What a tuning's summary.json says."""
    said = {
        "agent": plan.base.agent,
        "env": plan.base.env,
        "method": plan.settings.method,
        "best": found.best,
        "value": metrics.plain(found.value),
        "programs": found.programs,
        "env_steps": found.env_steps,
    }
    if isinstance(found, PopulationResult):
        return found.summary | said | {"schedule": found.schedule}
    sweep = found.confirmation
    confirmation = sweep and {
        name: {
            "mean": metrics.plain(sweep.final_return[i].mean()),
            "interval": metrics.plain(sweep.interval(i)),
            "per_seed": metrics.plain(sweep.final_return[i]),
        }
        for i, name in enumerate(("best", "before"))
    }
    return said | {"confirmation": confirmation, "trials": found.trials}
