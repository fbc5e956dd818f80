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
from jaxrl.runs import documents, metrics
from jaxrl.runs.directory import CONFIRMATION
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.driver import Interrupted, Stop, stop_signals
from jaxrl.runs.progress import Bar
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import reading
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
    if plan.settings.method == "pbt":
        return population.train(plan)
    study = studies.open_study(plan, plan.storage)
    found = _searched(plan, study, Stop())
    if not plan.settings.confirm:
        return found
    confirmed = sweeps.in_memory(search.confirmation_plan(plan, found.best))
    return dataclasses.replace(found, confirmation=confirmed)


def train(
    plan: TuningPlan, folder: Path, options: Options = DEFAULTS, overwrite: bool = False, draw: Drawing | None = None
) -> tuple[dict[str, Any], TuningResult]:
    """Tune into a new directory: the summary and the result. Raises ValueError before anything is compiled or written."""
    plan.base.check_rebuildable()
    study = None
    if plan.settings.method != "pbt" and plan.storage:
        study = studies.open_study(plan, plan.storage)
    population_wave = population.wave_of(plan, folder) if plan.settings.method == "pbt" else None
    values = {
        "kind": "population" if population_wave else "tuning",
        **plan.base.to_json(),
        "search": {name: search_space.axis_text(axis) for name, axis in plan.axes.items()},
        "tuning": dataclasses.asdict(plan.settings),
        "storage": plan.storage,
        **(folders.describe(population_wave) if population_wave else {}),
        **folders.about(),
    }
    folders.create(folder, values, overwrite)
    return _finish(plan, folder, study, options, draw)


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
        layout = folders.read_members(folder)[1]
        folders.check_here(folder, documents.read_config(folder), layout, options.anyway)
    return _finish(plan, folder, None, options, draw)


def _finish(
    plan: TuningPlan, folder: Path, study: Any, options: Options, draw: Drawing | None
) -> tuple[dict[str, Any], TuningResult]:
    with folders.held(folder), stop_signals() as stop:
        try:
            return _tuned(plan, folder, study, options, stop, draw)
        except Interrupted as stopped:
            raise Interrupted(
                f"{str(stopped).partition(';')[0]}; go on with: jaxrl resume {folder}", stopped.number
            ) from None


def _tuned(
    plan: TuningPlan, folder: Path, study: Any, options: Options, stop: Stop, draw: Drawing | None
) -> tuple[dict[str, Any], TuningResult]:
    begin = time.perf_counter()
    found: TuningResult
    if plan.settings.method == "pbt":
        found = population.train(plan, folder, options, stop)
        summary = documents.read(folder / SUMMARY, {}) | _population_summary(plan, found)
    else:
        storage = plan.storage or studies.storage_of(folder)
        study = study or studies.open_study(plan, storage)
        found = _searched(plan, study, stop)
        found = dataclasses.replace(found, confirmation=_confirmed(plan, found, folder, options))
        summary = _summary(plan, found)
    summary |= {"run_s": round(time.perf_counter() - begin, 3), "out": str(folder)}
    if draw:
        draw(plan, found, folder)
    documents.write(folder / SUMMARY, summary)
    return summary, found


def load(folder: Path, *, best: bool = False, anyway: bool = False) -> RunResult | SweepResult | PopulationResult:
    """What was trained into a directory of any kind: of a tuning its confirmation. Raises ValueError."""
    kind = documents.kind_of(folder)
    if kind == "population":
        if best:
            raise InputError(f"{folder} has no policies kept by keep_best: it is a population")
        plan = read(folder, anyway)
        return population.load(plan, folder)
    if kind == "tuning":
        if not (folder / CONFIRMATION / CONFIG).is_file():
            raise InputError(f"{folder} has no confirmation yet, whose policies could be looked at")
        folder = folder / CONFIRMATION
    return reading.load(folder, best=best, anyway=anyway)


def _searched(plan: TuningPlan, study: Any, stop: Stop) -> TuneResult:
    """The study searched to its last trial, with progress on standard error."""
    label, trials = f"tune {plan.base.agent} on {plan.base.env}", plan.settings.trials
    with Bar(label, trials, unit="trials", value="best") as bar:
        programs, steps = search.search(plan, study, bar.update, stop)
    return search.result(plan, study, programs, steps)


def _confirmed(plan: TuningPlan, result: TuneResult, folder: Path, options: Options) -> SweepResult | None:
    if not plan.settings.confirm:
        return None
    where = folder / CONFIRMATION
    if (where / CONFIG).is_file():
        sweeps.resume(where, options)
    else:
        sweeps.train(search.confirmation_plan(plan, result.best), where, options)
    loaded = reading.load(where)
    assert isinstance(loaded, SweepResult)
    return loaded


def _summary(plan: TuningPlan, result: TuneResult) -> dict[str, Any]:
    confirmation = None
    if result.confirmation is not None:
        confirmation = {
            name: {
                "mean": metrics.plain(result.confirmation.final_return[i].mean()),
                "interval": metrics.plain(result.confirmation.interval(i)),
                "per_seed": metrics.plain(result.confirmation.final_return[i]),
            }
            for i, name in enumerate(("best", "before"))
        }
    return {
        "agent": plan.base.agent,
        "env": plan.base.env,
        "method": plan.settings.method,
        "best": result.best,
        "value": result.value,
        "confirmation": confirmation,
        "trials": result.trials,
        "programs": result.programs,
        "env_steps": result.env_steps,
    }


def _population_summary(plan: TuningPlan, found: PopulationResult) -> dict[str, Any]:
    return {
        "agent": plan.base.agent,
        "env": plan.base.env,
        "method": "pbt",
        "best": found.best,
        "value": metrics.plain(found.final_return[found.best_member]),
        "schedule": found.schedule,
        "programs": 1,
        "env_steps": found.env_steps,
    }
