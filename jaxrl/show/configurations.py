"""Configurations of a result: members that differ in their seed alone, which are shown together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import ENV, Setting
from jaxrl.runs.metrics import Table
from jaxrl.sweeps.result import RunResult, SweepResult, ranked
from jaxrl.tuning.population import PopulationResult

Result = RunResult | SweepResult


class Configuration(NamedTuple):
    """One of a run, a sweep, a wave or a population (of which every member is one). S seeds, I iterations.

    number: as members name it. metrics: {name: [S, I]}. final_return: float [S]. diverged: bool [S]. splits: {name: [S]},
    the final returns by split of an environment with levels.
    agent: the trained policy of the i-th seed, `trainer, state`.
    """

    number: int
    setting: Setting
    seeds: Sequence[int]
    metrics: Table
    final_return: np.ndarray
    diverged: np.ndarray
    agent: Callable[[int], Any]
    splits: dict[str, np.ndarray]


def of(result: Result) -> list[Configuration]:
    """All of them, in order; iterations that one has not, because its program has fewer, are cut off."""
    if isinstance(result, SweepResult):
        return [_swept(result, config) for config in range(len(result.configs))]
    groups: dict[int, list[int]] = {}
    for row, member in enumerate(result.wave.members):
        groups.setdefault(member.config or 0, []).append(row)
    return [_member_rows(result, number, rows) for number, rows in groups.items()]


def _swept(result: SweepResult, config: int) -> Configuration:
    steps = result.metrics["env_steps"][config, 0]
    length = int(np.argmax(steps == steps[-1])) + 1
    metrics = {name: x[config, :, :length] for name, x in result.metrics.items()}
    setting, final, lost = result.configs[config], result.final_return[config], np.asarray(result.diverged)[config]
    splits = {name: x[config] for name, x in result.splits.items()}
    return Configuration(config, setting, result.seeds, metrics, final, lost, lambda i: result.agent(config, i), splits)


def _member_rows(result: RunResult, number: int, rows: list[int]) -> Configuration:
    first = result.wave.members[rows[0]]
    setting = {**first.hparams, **{ENV + name: value for name, value in first.env_params.items()}}
    if isinstance(result, PopulationResult):  # whose settings change on the way: those that it ended with
        setting = {"member": number, **{name: float(x[-1, number]) for name, x in result.rounds.hparams.items()}}
    metrics = {name: x[rows] for name, x in result.metrics.items()}
    seeds, final, lost = [result.seeds[row] for row in rows], result.final_return[rows], result.diverged[rows]
    splits = {name: x[rows] for name, x in result.splits.items()}
    return Configuration(number, setting, seeds, metrics, final, lost, lambda i: result.agent(rows[i]), splits)


def by_return(configurations: Sequence[Configuration]) -> list[int]:
    """Their places by mean final return, the best first; one with a return that is no finite number comes last."""
    with np.errstate(invalid="ignore"):
        return ranked(np.array([[found.final_return.mean()] for found in configurations]))


def base_of(result: Result) -> Experiment:
    """What was trained, but for what a sweep varies."""
    return result.plan.base if isinstance(result, SweepResult) else result.wave.experiment
