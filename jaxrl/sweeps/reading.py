"""Reading back what training wrote into a directory: the plan of a run or a sweep, and what its waves gave."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.types import PyTree
from jaxrl.experiment import lookup
from jaxrl.runs import callbacks, checkpoint, directory, documents, files, metrics
from jaxrl.runs.callbacks import BEST
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.driver import states_template
from jaxrl.runs.metrics import METRICS
from jaxrl.runs.wave import Wave
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import waves
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.result import RunResult, SweepResult, WaveResult

KINDS = ("run", "sweep")


def read_plan(folder: Path, anyway: bool = False) -> Plan:
    """The plan of a run or a sweep, nothing compiled. Raises ValueError."""
    values = documents.read_config(folder, *KINDS)
    base = directory.read_experiment(folder, values, anyway)
    for program in values["programs"]:
        documents.check(program, f"{folder / CONFIG}: programs", PROGRAM)
    with lookup.recorded(values.get("sources", {})):  # where the files of callbacks lie
        callbacks.check(values["callbacks"], values["eval_every"])
    try:
        return plans.from_json(base, values, alone=values["kind"] == "run")
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InputError(f"{folder / CONFIG} is damaged: {error!r}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder / CONFIG} is damaged: {error}") from error


PROGRAM = {"devices": int, "width": int, "bytes": int | None, "members": int}


def devices(folder: Path) -> int:
    """Over how many devices something is laid: as planned, and as unfinished waves are. Raises ValueError."""
    values = documents.read_config(folder)
    if values["kind"] == "population" or values["kind"] == "run":
        return directory.read_members(folder)[1].devices
    begun = [path for _, path in waves.numbered(folder) if not (path / SUMMARY).exists()]
    for program in values.get("programs", []):
        documents.check(program, f"{folder / CONFIG}: programs", PROGRAM)
    planned = [program["devices"] for program in values.get("programs", []) if program["bytes"] is not None]
    return max([1, *planned, *(directory.read_members(path)[1].devices for path in begun)])


def load(folder: str | Path, *, best: bool = False, anyway: bool = False) -> RunResult | SweepResult:
    """A run or a sweep; policies are read when asked for. Of a run that goes on, what there is so far.

    best: the policies that the callback keep_best kept, instead of the last ones. Raises ValueError where a sweep is not
    finished, or nothing can be read.
    """
    path = Path(folder)
    plan = read_plan(path, anyway)
    result = result_of(plan, path, best=best)
    summary = path / SUMMARY
    if summary.is_file():  # else it was stopped behind its last wave
        values = documents.read(summary, documents.RUN_SUMMARY if plan.alone else documents.SWEEP_SUMMARY)
        result.compile_s, result.run_s = values["compile_s"], values["run_s"]
    return RunResult(result) if plan.alone else result


def result_of(plan: Plan, folder: Path, compile_s: float = 0.0, workers: int = 1, best: bool = False) -> SweepResult:
    """run_s: of the waves together; of several workers, the mean of what each took."""
    there = waves.found(plan, folder)
    left = sum(map(len, waves.missing(plan, there)))
    if left:
        raise InputError(f"{left} members of {folder} are in no wave yet; go on with: jaxrl resume {folder}")
    done = [read_wave(plan, wave, best) for wave in there]
    run_s = sum(found.summary.get("run_s", 0.0) for found in done) / workers
    return SweepResult(plan, done, compile_s, run_s)


def read_metrics(wave: Wave) -> metrics.Table:
    """A wave's metrics.jsonl as {name: [members, iterations]}. Raises ValueError."""
    path = wave.directory / METRICS
    rows = metrics.read(path)
    if not rows:
        raise InputError(f"{wave.directory} has no metrics yet")
    return metrics.table(rows, [member.name for member in wave.members], path)


def read_wave(plan: Plan, wave: Wave, best: bool = False) -> WaveResult:
    """What a wave gave; a sweep's must be finished. best: with the states that keep_best kept."""
    path, trainer = wave.directory, plan.program_list[wave.program].compiled.trainer
    if not wave.finished and not plan.alone:
        raise InputError(f"wave {path} is not finished; go on with: jaxrl resume {path.parent.parent}")
    summary = documents.read(path / SUMMARY, documents.RUN_SUMMARY) if wave.finished else {}
    returns = returns_of(summary) if summary else np.full(len(wave.members), np.nan)
    if returns.shape != (len(wave.members),):
        raise InputError(f"{path / SUMMARY} is damaged: final_return is not one number for each member")

    @functools.cache
    def states() -> PyTree:
        if best:
            found = Checkpoints(path / BEST).restore(states_template(wave, trainer)) if (path / BEST).is_dir() else None
        else:
            found = files.restore(wave, trainer)
        if found is None:
            raise InputError(f"{path} has no {'policies kept by keep_best' if best else 'checkpoint yet'}")
        return checkpoint.to_host(found[0])

    return WaveResult(wave, read_metrics(wave), returns, states, summary)


def returns_of(summary: dict[str, Any]) -> np.ndarray:
    """final_return of a wave's summary, float [members]."""
    listed = summary["final_return"].get("per_seed")
    if not isinstance(listed, list) or not all(x is None or isinstance(x, int | float) for x in listed):
        raise InputError("summary.json is damaged: final_return has no per_seed numbers")
    return np.array([np.nan if x is None else x for x in listed], float)
