"""What runs in the process of a Ray worker: it plans for its own devices and trains waves (see ray_engine.py)."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.core.errors import InputError
from jaxrl.devices import platform
from jaxrl.devices.layout import Layout
from jaxrl.runs import rundir
from jaxrl.runs.run import Options
from jaxrl.runs.rundir import Member, Run
from jaxrl.sweeps import planning, sweepdir, waves
from jaxrl.sweeps.planning import Plan
from jaxrl.sweeps.waves import Part

LEASE_SECONDS = 120.0  # for which a file server may keep the lock of a machine that is lost


class Slot(NamedTuple):
    """A place for a worker. node: Ray's name of the machine. kind: "cpu" or "gpu". sharers: workers in its memory."""

    node: str
    kind: str
    devices: int
    sharers: int

    def takes(self, part: Part) -> bool:
        """Whether a wave that was begun can go on here: bits depend on the kind, and on a layout that must be kept."""
        kind = rundir.read_config(part.path)["device"]["platform"]
        return kind == self.kind and part.run.layout.devices <= self.devices


class Worker:
    """What runs in a worker's process, one call at a time. It may be made anew between any two calls."""

    def __init__(self, slot: Slot) -> None:
        if slot.kind == "cpu":
            # How many threads XLA makes; else one for each core of the machine, and workers stand in each other's way.
            # (Measured, two workers of one core: 28 s of training instead of 45.)
            os.environ["NPROC"] = str(slot.devices)
        platform.configure(slot.devices, cpu_only=slot.kind == "cpu")
        self._slot = slot
        self._plans: dict[Path, Plan] = {}

    def look(self, directory: Path, plan: dict[str, Any], versions: dict[str, str]) -> None:
        """Raises ValueError where the driver's directory is not to be seen from here, or other versions are installed."""
        where = f"worker on {socket.gethostname()}"
        for package, version in platform.versions().items():
            if version != versions[package]:
                raise InputError(f"{where} has {package} {version}, here is {versions[package]}")
        if not sweepdir.is_sweep(directory) or sweepdir.read_plan_json(directory) != plan:
            raise InputError(f"{where} does not see {directory}: it must lie where all machines share files")

    def fit(self, directory: Path, group: int, members: int) -> Layout:
        """The layout here for so many members of a group, compiled. Raises ValueError where not even one fits."""
        plan = self._plan(directory)
        free = planning.available_bytes() // self._slot.sharers
        plan.groups[group].fit(members, min(free, plan.memory_limit or free))
        return plan.groups[group].programs.layout

    def train(
        self, directory: Path, group: int, members: tuple[Member, ...], layout: Layout, path: Path, options: Options
    ) -> tuple[float, float]:
        """Train a wave to its end, from wherever it stands; gives its mean return, and the seconds of compiling so far."""
        plan = self._plan(directory)
        run = Run(plan.groups[group].experiment, members, plan.eval_every, layout)
        options = dataclasses.replace(options, patience=LEASE_SECONDS)
        mean = waves.finish(plan, Part(group, run, path), options)["final_return"]["mean"]
        return math.nan if mean is None else mean, sum(group.compile_s for group in plan.groups)

    def _plan(self, directory: Path) -> Plan:
        if directory not in self._plans:
            self._plans[directory] = sweepdir.read_plan(directory)
        return self._plans[directory]
