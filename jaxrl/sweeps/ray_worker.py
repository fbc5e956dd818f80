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
from jaxrl.devices.memory import available_bytes
from jaxrl.experiment.members import Member
from jaxrl.runs import documents
from jaxrl.runs.driver import stop_signals
from jaxrl.runs.wave import Wave
from jaxrl.sweeps import reading, waves
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.waves import Options

LEASE_SECONDS = 120.0  # for which a file server may keep the lock of a machine that is lost


class Slot(NamedTuple):
    """A place for a worker. node: Ray's name of the machine. kind: "cpu" or "gpu". sharers: workers in its memory."""

    node: str
    kind: str
    devices: int
    sharers: int

    def takes(self, wave: Wave) -> bool:
        """Whether a wave that was begun can go on here: bits depend on the kind, and on a layout that must be kept."""
        kind = documents.read_config(wave.directory)["device"]["platform"]
        return kind == self.kind and wave.layout.devices <= self.devices


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
        if not (directory / documents.CONFIG).is_file() or documents.read_config(directory) != plan:
            raise InputError(f"{where} does not see {directory}: it must lie where all machines share files")

    def fit(self, directory: Path, program: int, members: int) -> Layout:
        """The layout here for so many members of a program, compiled. Raises ValueError where not even one fits."""
        plan = self._plan(directory)
        free = available_bytes() // self._slot.sharers
        plan.program_list[program].fit(members, min(free, plan.memory_limit or free))
        return plan.program_list[program].compiled.layout

    def train(
        self, directory: Path, program: int, members: tuple[Member, ...], layout: Layout, path: Path, options: Options
    ) -> tuple[float, float]:
        """Train a wave to its end, from wherever it stands; gives its mean return, and the seconds of compiling so far."""
        plan = self._plan(directory)
        wave = Wave(plan.program_list[program].experiment, members, layout, plan.eval_every, program, path)
        options = dataclasses.replace(options, patience=LEASE_SECONDS)
        with stop_signals() as stop:
            mean = waves.finish(plan, wave, options, stop)["final_return"]["mean"]
        return math.nan if mean is None else mean, plan.compile_s

    def _plan(self, directory: Path) -> Plan:
        if directory not in self._plans:
            self._plans[directory] = reading.read_plan(directory)
        return self._plans[directory]
