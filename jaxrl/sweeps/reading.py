"""Reading back what training wrote into a directory: the plan of a run or a sweep, and what its waves gave."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.core.types import PyTree
from jaxrl.experiment import lookup
from jaxrl.runs import callbacks, checkpoint, directory, documents, files, snapshot
from jaxrl.runs.callbacks import BEST
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.wave import Wave
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import waves
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.result import RunResult, SweepResult

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
    """A run, a sweep, or one wave of a sweep; policies are read when asked for. Of what goes on, what there is so far.

    best: the policies that the callback keep_best kept, instead of the last ones. Raises ValueError where a sweep is not
    finished, or nothing can be read.
    """
    path = Path(folder)
    values = documents.read_config(path, *KINDS, "wave")
    if values["kind"] == "wave":
        wave = directory.read_wave(path, anyway)
        return read_result(wave, wave.experiment.trainer(), best=best)
    plan = read_plan(path, anyway)
    if plan.alone:
        return read_result(waves.found(plan, path)[0], plan.program_list[0].compiled.trainer, plan, best)
    result, summary = result_of(plan, path, best=best), path / SUMMARY
    if summary.is_file():  # else it was stopped behind its last wave
        said = documents.read(summary, documents.SWEEP_SUMMARY)
        result.compile_s, result.run_s = said["compile_s"], said["run_s"]
    return result


def result_of(plan: Plan, folder: Path, compile_s: float = 0.0, workers: int = 1, best: bool = False) -> SweepResult:
    """A sweep whose waves are finished. run_s: of the waves together; of several workers, the mean of what each took."""
    there = waves.found(plan, folder)
    left = sum(map(len, waves.missing(plan, there)))
    if left:
        raise InputError(f"{left} members of {folder} are in no wave yet; go on with: jaxrl resume {folder}")
    for wave in there:
        if not wave.finished:
            raise InputError(f"wave {wave.path} is not finished; go on with: jaxrl resume {folder}")
    done = [read_result(wave, plan.program_list[wave.program].compiled.trainer, best=best) for wave in there]
    return SweepResult(plan, done, compile_s, sum(found.run_s for found in done) / workers)


def read_result(wave: Wave, trainer: Any, plan: Plan | None = None, best: bool = False) -> RunResult:
    """What a wave gave so far. best: with the states that keep_best kept. Raises ValueError."""
    summary = documents.read(wave.directory / SUMMARY, documents.RUN_SUMMARY) if wave.finished else {}
    return RunResult(wave, trainer, files.read_metrics(wave), states_reader(wave, trainer, best), summary, plan)


def states_reader(wave: Wave, trainer: Any, best: bool = False, *, same_settings: bool = True) -> Callable[[], PyTree]:
    """A function that reads a wave's newest states on the host, or those that keep_best kept; once. It raises ValueError.

    same_settings: as in `snapshot.restore`.
    """
    path = wave.directory

    @functools.cache
    def read() -> PyTree:
        if best:
            found = Checkpoints(path / BEST).restore(wave.template(trainer)) if (path / BEST).is_dir() else None
        else:
            found = snapshot.restore(wave, trainer, same_settings=same_settings)
        if found is None:
            raise InputError(f"{path} has no {'policies kept by keep_best' if best else 'checkpoint yet'}")
        return checkpoint.to_host(found[0])

    return read
