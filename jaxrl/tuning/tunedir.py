"""A tuning, from its settings to its result; in a directory it can be resumed from, or in memory.

tune.json         every setting, what is varied, versions
study.db          the Optuna study (unless another storage was named); confirmation/: a sweep directory (see sweepdir.py)
checkpoints/      of population-based training; rounds.jsonl: scores, parents and hyper-parameters of each round
summary.json      the finished tuning's result; trials.png: its picture
"""

from __future__ import annotations

import dataclasses
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.devices import platform
from jaxrl.experiment import experiment, search_space
from jaxrl.experiment.experiment import Experiment, resolve
from jaxrl.experiment.search_space import Axis
from jaxrl.runs import metrics, rundir
from jaxrl.runs.progress import Progress
from jaxrl.runs.run import Interrupted
from jaxrl.show import tune_plot
from jaxrl.sweeps import sweepdir, sweeping
from jaxrl.tuning import population, studies, tuning
from jaxrl.tuning.population import PopulationResult
from jaxrl.tuning.studies import Tuning
from jaxrl.tuning.tuning import TuneResult

TUNE, SUMMARY, CONFIRMATION, PICTURE = "tune.json", "summary.json", "confirmation", "trials.png"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is tuned and how. storage: an Optuna storage's URL; None: the directory's own study."""

    base: Experiment
    axes: dict[str, Axis]
    settings: Tuning
    storage: str | None


def make_plan(base: Experiment, search: Mapping[str, Any] | None, settings: Mapping[str, Any], storage: str | None) -> Plan:
    """Checked. Raises ValueError naming what is wrong."""
    checked, axes = studies.make_settings(settings), tuning.make_axes(base, search or {})
    if checked.method == "pbt":
        population.check(base, axes, checked)
        if storage:
            raise InputError(f"storage {storage!r} beside method = 'pbt', which has no study")
    else:
        studies.require_optuna()
    return Plan(base, axes, checked, storage)


def is_tuning(directory: Path) -> bool:
    """Whether a directory holds a tuning."""
    return (directory / TUNE).is_file()


def create(plan: Plan, directory: Path, overwrite: bool = False) -> None:
    """Make the directory and its tune.json. Raises ValueError where it is not empty, and no tuning to replace."""
    if rundir.check_free(directory, overwrite, read, "tuning"):
        for name in (CONFIRMATION, "checkpoints"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for name in (SUMMARY, PICTURE, "study.db", population.ROUNDS, TUNE):
            (directory / name).unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "jaxrl_tune": FORMAT,
        "experiment": plan.base.to_json(),
        "search": {name: search_space.axis_text(axis) for name, axis in plan.axes.items()},
        "settings": dataclasses.asdict(plan.settings),
        "storage": plan.storage,
        "versions": platform.versions(),
        "device": platform.device(),
        "git_commit": platform.git_commit(),
    }
    rundir.write_json(directory / TUNE, values)


def read(directory: Path) -> Plan:
    """The plan of a tuning's directory. Raises ValueError where it is none of ours, or damaged."""
    values = rundir.read_document(directory, TUNE, "jaxrl_tune", FORMAT, "tuning")
    try:
        base = experiment.from_json(values["experiment"])
        return make_plan(base, values["search"], values["settings"], values["storage"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / TUNE} is damaged: {error!r}") from error


def run(plan: Plan, directory: Path, overwrite: bool = False) -> dict[str, Any]:
    """Tune into a new directory; returns the summary. Raises ValueError before anything is compiled or written."""
    study = None
    if plan.settings.method != "pbt" and plan.storage:
        study = studies.open_study(plan.storage, plan.base, plan.axes, plan.settings)
    create(plan, directory, overwrite)
    return _finish(plan, directory, study)


def resume(directory: Path) -> dict[str, Any]:
    """Go on with a tuning: trials that were told stay, those that were running are tried again."""
    return _finish(read(directory), directory, None)


def _finish(plan: Plan, directory: Path, study: Any) -> dict[str, Any]:
    try:
        return _tuned(plan, directory, study)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; go on with: jaxrl resume {directory}", signal.SIGINT) from None


def _tuned(plan: Plan, directory: Path, study: Any) -> dict[str, Any]:
    begin = time.perf_counter()
    found: TuneResult | PopulationResult
    if plan.settings.method == "pbt":
        found = population.train(plan.base, plan.axes, plan.settings, directory)
        summary = _population_summary(plan, found)
    else:
        storage = plan.storage or studies.storage_of(directory)
        study = study or studies.open_study(storage, plan.base, plan.axes, plan.settings)
        found = searched(plan, study)
        found = dataclasses.replace(found, confirmation=_confirmed(plan, found, directory))
        summary = _summary(plan, found)
    summary |= {"run_s": round(time.perf_counter() - begin, 3), "out": str(directory)}
    _draw(plan, found, directory / PICTURE)
    rundir.write_json(directory / SUMMARY, summary)
    return summary


def _draw(plan: Plan, found: TuneResult | PopulationResult, out: Path) -> None:
    """The tuning's picture."""
    title = f"{plan.base.agent} on {plan.base.env}, {plan.settings.method}: "
    if isinstance(found, PopulationResult):
        title += f"{plan.settings.population} members, {plan.settings.rounds} rounds"
        return tune_plot.population(found, plan.axes, out, title)
    best, before = (None, None) if found.confirmation is None else found.confirmation.final_return.mean(1).tolist()
    tune_plot.trials(found.trials, plan.axes, before, out, f"{title}{len(found.trials)} trials", best)


def searched(plan: Plan, study: Any) -> TuneResult:
    """The study searched to its last trial, with progress on standard error."""
    label, trials = f"tune {plan.base.agent} on {plan.base.env}", plan.settings.trials
    with Progress(label, trials, unit="trials", value="best") as progress:
        programs, steps = tuning.search(plan.base, plan.axes, plan.settings, study, progress.update)
    return tuning.result(plan.base, plan.axes, study, programs, steps)


def _confirmed(plan: Plan, result: TuneResult, directory: Path) -> sweeping.SweepResult | None:
    if not plan.settings.confirm:
        return None
    where = directory / CONFIRMATION
    if sweepdir.is_sweep(where):
        sweepdir.resume(where)
    else:
        sweepdir.run(tuning.confirmation_plan(plan.base, result.best, plan.settings), where)
    return sweepdir.load(where)


def _summary(plan: Plan, result: TuneResult) -> dict[str, Any]:
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


def _population_summary(plan: Plan, found: PopulationResult) -> dict[str, Any]:
    return {
        "agent": plan.base.agent,
        "env": plan.base.env,
        "method": "pbt",
        "best": found.best,
        "value": metrics.plain(found.final_return[found.best_member]),
        "final_return": metrics.plain(found.final_return),
        "schedule": found.schedule,
        "programs": 1,
        "env_steps": found.env_steps,
    }


def tune(
    agent: Any,
    env: Any,
    *,
    search: Mapping[str, Any] | None = None,
    storage: str | None = None,
    total_steps: int | None = None,
    config: Any = None,
    hparams: Any = None,
    env_params: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    preset: str | None = None,
    **settings: Any,
) -> TuneResult | PopulationResult:
    """Search for better settings of an agent in an environment.

    search: {setting: "log:LOW,HIGH", "uniform:LOW,HIGH" or values}; default: the agent's own in presets/search.toml.
    storage: an Optuna storage's URL (`sqlite:///study.db`), where a study of the same work is continued, by one process at
    a time; None keeps it in memory.
    settings: fields of `Tuning`: trials, parallel, seeds, method, pruner, ... The rest as in `make_trainer`.

    Returns a TuneResult, for method "pbt" a PopulationResult. Raises ValueError before any compile.
    """
    base = resolve(
        agent,
        env,
        total_steps=total_steps,
        config=config,
        hparams=hparams,
        env_params=env_params,
        env_kwargs=env_kwargs,
        preset=preset,
    )
    plan = make_plan(base, search, settings, storage)
    if plan.settings.method == "pbt":
        return population.train(plan.base, plan.axes, plan.settings)
    found = searched(plan, studies.open_study(storage, base, plan.axes, plan.settings))
    if not plan.settings.confirm:
        return found
    confirmed = sweeping.in_memory(tuning.confirmation_plan(base, found.best, plan.settings))
    return dataclasses.replace(found, confirmation=confirmed)
