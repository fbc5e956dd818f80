"""Trials trained side by side that can be cut between chunks: the survivors are packed into a narrower program.

A trial is a configuration with all its seeds. Programs have widths full, full/2, full/4 …, so that few are compiled, and a
member's bits do not depend on which of them it runs in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree
from jaxrl.devices.layout import Layout
from jaxrl.devices.programs import CHUNK, FINAL_EPISODES, Programs
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import Setting
from jaxrl.runs.rundir import Member, Run
from jaxrl.sweeps import planning


class Shelf:
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
            needed, free = found.peak_bytes(), planning.available_bytes()
            if needed > free:
                sizes = f"{planning.readable(needed)} of {planning.readable(free)}"
                raise InputError(f"{width} members at once need {sizes} memory; give fewer parallel trials or seeds")
            self._programs[key] = found
        return self._programs[key]

    @property
    def compiled(self) -> int:
        """Training programs so far."""
        return len(self._programs)


class Pack:
    """Trials of one static configuration, in training."""

    def __init__(self, shelf: Shelf, experiment: Experiment, trials: Sequence[int], members: Sequence[Member]) -> None:
        """members: those of each trial in turn, equally many of each."""
        self.trials = list(trials)
        self._shelf, self._experiment, self._seeds = shelf, experiment, len(members) // len(trials)
        self.trainer = shelf.trainer(experiment)
        self.done = 0
        self._diverged = np.zeros(len(members), bool)
        self._arrange()
        run = Run(experiment, tuple(members), 0, self._layout)
        self.states: PyTree = self._programs.start(run.arguments(self.trainer))

    def advance(self, iterations: int) -> None:
        """Train until so many iterations are done in all."""
        while self.done < iterations:
            n = min(CHUNK, iterations - self.done)
            self.states, rows = self._programs.chunk(self.states, np.int32(n))
            self._diverged |= np.asarray(rows["diverged"])[: self._diverged.size, :n].any(1)
            self.done += n

    def scores(self) -> np.ndarray:
        """A greedy evaluation of each trial, mean over episodes and seeds, float [trials]; NaN where a seed diverged."""
        returns = self._layout.unpad(self._programs.evaluate(self.states, FINAL_EPISODES, self.done)).returns
        of_members = np.where(self._diverged, np.nan, returns.mean(1))
        return of_members.reshape(len(self.trials), self._seeds).mean(1)

    def keep(self, trials: Sequence[int]) -> None:
        """Go on with these trials only, in their present order."""
        kept = [i for i, trial in enumerate(self.trials) if trial in set(trials)]
        if len(kept) == len(self.trials):
            return
        index = np.concatenate([np.arange(i * self._seeds, (i + 1) * self._seeds) for i in kept])
        self.trials, self._diverged = [self.trials[i] for i in kept], self._diverged[index]
        self._arrange()
        self.states = self._programs.place(self._layout.pad(jax.tree.map(lambda x: x[index], self.states)))

    def _arrange(self) -> None:
        count = len(self.trials) * self._seeds
        self._programs = self._shelf.programs(self._experiment, count)
        self._layout = dataclasses.replace(self._programs.layout, members=count)


def packed(shelf: Shelf, base: Experiment, trials: dict[int, Setting], seeds: Sequence[int]) -> list[Pack]:
    """Trials {number: setting} as one Pack for each static configuration, at their start."""
    groups: dict[Any, list[int]] = {}
    for number, setting in trials.items():
        groups.setdefault(search_space.applied(base, setting).config, []).append(number)
    packs = []
    for config, numbers in groups.items():
        members = [member for n in numbers for member in planning.members(base, trials[n], n, seeds)]
        packs.append(Pack(shelf, base.replace(config=config), numbers, members))
    return packs
