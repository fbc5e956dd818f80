"""Trials trained side by side that can be cut between chunks: the survivors are packed into a narrower program.

A trial is a configuration with all its seeds; the trials of one static configuration are a wave. Programs have widths full,
full/2, full/4 …, so that few are compiled, and a member's bits do not depend on which of them it runs in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.devices.layout import Layout
from jaxrl.devices.memory import available_bytes, readable
from jaxrl.devices.programs import Programs
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.members import Member
from jaxrl.experiment.search_space import Setting
from jaxrl.runs.driver import Stop, Training
from jaxrl.runs.wave import Wave
from jaxrl.sweeps.plan import by_config


class ProgramCache:
    """Compiled programs by static configuration and width, for as many members at once as `full`."""

    def __init__(self, full: int) -> None:
        self._full = full
        self._trainers: dict[Any, Trainer] = {}
        self._programs: dict[tuple[Any, int], Programs] = {}

    def trainer(self, experiment: Experiment) -> Trainer:
        """The experiment's trainer, made once."""
        if experiment.config not in self._trainers:
            self._trainers[experiment.config] = experiment.trainer()
        return self._trainers[experiment.config]

    def programs(self, experiment: Experiment, members: int) -> Programs:
        """Programs wide enough for so many members. Raises ValueError where they do not fit the memory."""
        width = self._full
        while -(-width // 2) >= members and width > 1:
            width = -(-width // 2)
        key = experiment.config, width
        if key not in self._programs:
            layout = Layout.over_all_devices(width)
            layout = dataclasses.replace(layout, members=layout.padded, width=layout.padded)
            found = Programs(self.trainer(experiment), layout)
            needed, free = found.peak_bytes(), available_bytes()
            if needed > free:
                sizes = f"{readable(needed)} of {readable(free)}"
                raise InputError(f"{width} members at once need {sizes} memory; give fewer parallel trials or seeds")
            self._programs[key] = found
        return self._programs[key]

    @property
    def compiled(self) -> int:
        """Training programs so far."""
        return len(self._programs)


class Pack:
    """Trials of one static configuration, in training; `seeds` members each, in the order of the trials' numbers."""

    def __init__(
        self, cache: ProgramCache, experiment: Experiment, members: tuple[Member, ...], seeds: int, stop: Stop
    ) -> None:
        self.trials, self._seeds, self._cache = [m.config or 0 for m in members[::seeds]], seeds, cache
        programs = cache.programs(experiment, len(members))
        layout = dataclasses.replace(programs.layout, members=len(members))
        self.training = Training(Wave(experiment, members, layout), programs, stop=stop)
        self.trainer = self.training.trainer

    def scores(self) -> np.ndarray:
        """A greedy evaluation of each trial, mean over episodes and seeds, float [trials]; NaN where a seed diverged.

        On validation levels, where the environment has levels.
        """
        returns = self.training.evaluate(split=self.training.validation).returns.mean(1)
        of_members = np.where(self.training.diverged, np.nan, returns)
        return of_members.reshape(len(self.trials), self._seeds).mean(1)

    def keep(self, trials: Sequence[int]) -> None:
        """Go on with these trials only, in their present order."""
        kept = [i for i, trial in enumerate(self.trials) if trial in set(trials)]
        if len(kept) == len(self.trials):
            return
        index = np.concatenate([np.arange(i * self._seeds, (i + 1) * self._seeds) for i in kept])
        programs = self._cache.programs(self.training.wave.experiment, len(index))
        layout = dataclasses.replace(programs.layout, members=len(index))
        self.training.keep(index, programs, self.training.wave.keep(index, layout))
        self.trials = [self.trials[i] for i in kept]


def packed(
    cache: ProgramCache, base: Experiment, trials: dict[int, Setting], seeds: Sequence[int], stop: Stop
) -> list[Pack]:
    """Trials {number: setting} as one Pack for each static configuration, at their start."""
    return [Pack(cache, experiment, theirs, len(seeds), stop) for experiment, theirs in by_config(base, trials, seeds)]
