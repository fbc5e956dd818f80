"""What a sweep will run, decided before it runs: programs, members, waves, bytes.

Configurations that differ in traced settings alone share a program, and are vmapped; each other static configuration is a
program of its own. Where the members of a program do not fit the memory, they run in waves of equal shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import psutil

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.devices.layout import Layout
from jaxrl.devices.programs import Programs
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.search_space import Setting
from jaxrl.runs.rundir import Member, Run

Settings = Sequence[Setting]


@dataclasses.dataclass
class Group:
    """One program and the members that it trains, wave by wave.

    members: all of them, by configuration, then seed; the last wave may hold fewer than the others.
    bytes: what a wave holds at its peak, as predicted from the compiled program; None where the machines that train are
    yet to find out how many members fit them: until `fit`, `programs` is then a guess and not compiled.
    """

    experiment: Experiment
    members: tuple[Member, ...]
    programs: Programs
    bytes: int | None
    _others: dict[Layout, Programs] = dataclasses.field(default_factory=dict)

    @property
    def compile_s(self) -> float:
        """Seconds spent on compiling so far, whatever the layout."""
        return sum(programs.compile_s for programs in (self.programs, *self._others.values()))

    def fit(self, members: int, limit: int) -> None:
        """Choose the layout for so many members: the widest program that fits `limit` bytes. Raises ValueError."""
        self.programs, self.bytes = _fit(self.programs.trainer, members, limit)

    def programs_of(self, layout: Layout) -> Programs:
        """Those of a wave in that layout: the plan's own, or the same trainer's in another, made when first asked for."""
        shape = dataclasses.replace(layout, members=layout.padded, width=layout.padded)
        if shape == self.programs.layout:
            return self.programs
        return self._others.setdefault(shape, Programs(self.programs.trainer, shape))

    def waves(self, eval_every: int, members: Sequence[Member] | None = None, layout: Layout | None = None) -> list[Run]:
        """The runs to make, in order, of some members or of all, in the planned layout or another."""
        members, layout = tuple(self.members if members is None else members), layout or self.programs.layout
        parts = [members[i : i + layout.padded] for i in range(0, len(members), layout.padded)]
        return [Run(self.experiment, part, eval_every, dataclasses.replace(layout, members=len(part))) for part in parts]


@dataclasses.dataclass
class Plan:
    """A sweep: `settings` (one a configuration, the varied ones only) × seeds, as groups of one program each.

    eval_every: environment steps between greedy evaluations in training, 0 for none.
    memory_limit: bytes that a wave may hold on all devices of a machine together; None: what is free there.
    asked: the flags of `jaxrl sweep` that give `settings`; none where these were given one by one.
    """

    base: Experiment
    settings: list[Setting]
    seeds: int
    seed: int
    eval_every: int
    memory_limit: int | None
    groups: list[Group]
    asked: list[str] = dataclasses.field(default_factory=list)

    @property
    def programs(self) -> int:
        """Training programs to compile."""
        return len(self.groups)

    @property
    def fitted(self) -> bool:
        """Whether every program was fitted to this machine."""
        return all(group.bytes is not None for group in self.groups)

    @property
    def bytes(self) -> int | None:
        """Bytes held at the peak, predicted: that of the largest wave; None where not every program is fitted."""
        return max(group.bytes or 0 for group in self.groups) if self.fitted else None

    @property
    def env_steps(self) -> int:
        """Environment steps of all members."""
        return sum(group.programs.trainer.total_steps * len(group.members) for group in self.groups)

    def lines(self) -> list[str]:
        """The plan as a table."""
        members = len(self.settings) * self.seeds
        first = (
            f"plan: {len(self.settings)} configurations × {self.seeds} seeds = {members} members, "
            f"{self.env_steps:,} steps, {self.programs} program(s)"
        )
        if not self.fitted:
            rows = [f"{i:>7} {len(group.members):>8}  {self.statics(group)}" for i, group in enumerate(self.groups)]
            return [first, f"{'program':>7} {'members':>8}  static settings", *rows]
        lines = [
            f"{first} on {jax.local_device_count()} {jax.local_devices()[0].platform} device(s)",
            f"{'program':>7} {'members':>8} {'waves':>6} {'devices × width':>16} {'bytes':>10}  static settings",
        ]
        for i, group in enumerate(self.groups):
            layout = group.programs.layout
            lines.append(
                f"{i:>7} {len(group.members):>8} {len(group.waves(self.eval_every)):>6} "
                f"{f'{layout.devices} × {layout.padded // layout.devices}':>16} {readable(group.bytes or 0):>10}  "
                + self.statics(group)
            )
        return [*lines, f"memory: {readable(self.bytes or 0)} at most, of {readable(self.memory_limit or 0)}"]

    def summary(self) -> dict[str, Any]:
        """What a machine reads of the plan."""
        return {
            "agent": self.base.agent,
            "env": self.base.env,
            "configs": self.settings,
            "seeds": self.seeds,
            "env_steps": self.env_steps,
            "programs": self.programs,
            "members": len(self.settings) * self.seeds,
            "waves": sum(len(group.waves(self.eval_every)) for group in self.groups) if self.fitted else None,
            "devices": max(group.programs.layout.devices for group in self.groups) if self.fitted else None,
            "bytes": self.bytes,
            "memory_limit": self.memory_limit,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same plan."""
        return {
            "experiment": self.base.to_json(),
            "settings": self.settings,
            "seeds": self.seeds,
            "seed": self.seed,
            "eval_every": self.eval_every,
            "memory_limit": self.memory_limit,
            "asked": self.asked,
            "groups": [
                {
                    "devices": g.programs.layout.devices,
                    "width": g.programs.layout.padded,
                    "bytes": g.bytes,
                    "members": len(g.members),
                }
                for g in self.groups
            ],
        }

    def statics(self, group: Group) -> str:
        """The varied settings that make a group a program of its own, as they are typed."""
        known = search_space.fields(self.base)
        setting = self.settings[group.members[0].config or 0]
        return search_space.text({name: value for name, value in setting.items() if known[name].kind == "config"})


def make(
    base: Experiment,
    settings: Settings,
    seeds: int,
    seed: int,
    eval_every: int = 0,
    memory_limit: int | None = None,
    *,
    fit: bool = True,
) -> Plan:
    """Group, lay out and compile. Raises ValueError before any compile where a setting or the memory does not fit.

    fit: for this machine; otherwise those that train do it, each for itself, and nothing is compiled here.
    """
    grouped = _groups(base, settings, seeds, seed)
    trainers = [experiment.trainer() for experiment, _ in grouped]  # what does not fit together is refused here
    groups = [
        Group(experiment, members, _guess(trainer, len(members)), None)
        for (experiment, members), trainer in zip(grouped, trainers, strict=True)
    ]
    if fit:
        memory_limit = memory_limit or available_bytes()
        for group in groups:
            group.fit(len(group.members), memory_limit)
    return Plan(base, list(settings), seeds, seed, eval_every, memory_limit, groups)


def from_json(base: Experiment, values: dict[str, Any]) -> Plan:
    """The plan of a `to_json`: the same layouts, nothing compiled yet. base: its experiment."""
    settings = [{n: tuple(v) if isinstance(v, list) else v for n, v in s.items()} for s in values["settings"]]
    groups = []
    for (experiment, members), kept in zip(
        _groups(base, settings, values["seeds"], values["seed"]), values["groups"], strict=True
    ):
        programs = _guess(experiment.trainer(), len(members))
        if kept["bytes"] is not None:
            programs = Programs(programs.trainer, Layout(kept["width"], kept["devices"], kept["width"]))
        groups.append(Group(experiment, members, programs, kept["bytes"]))
    seeds, seed, eval_every, limit = (values[name] for name in ("seeds", "seed", "eval_every", "memory_limit"))
    return Plan(base, settings, seeds, seed, eval_every, limit, groups, values.get("asked", []))


def members(base: Experiment, setting: Setting, number: int, seeds: Sequence[int]) -> list[Member]:
    """The seeds of configuration `number`, with the traced part of its setting."""
    parts = search_space.parted(base, setting)
    return [Member(seed, number, parts["hparams"], base.env_params | parts["env"]) for seed in seeds]


def _groups(base: Experiment, settings: Settings, seeds: int, seed: int) -> list[tuple[Experiment, tuple[Member, ...]]]:
    """Members by static configuration, in order of first appearance."""
    found: dict[Any, tuple[Experiment, list[Member]]] = {}
    for number, setting in enumerate(settings):
        config = search_space.applied(base, setting).config
        each = members(base, setting, number, range(seed, seed + seeds))
        found.setdefault(config, (base.replace(config=config), []))[1].extend(each)
    return [(experiment, tuple(theirs)) for experiment, theirs in found.values()]


def _guess(trainer: Any, members: int) -> Programs:
    """Those of all members at once, not compiled."""
    return Programs(trainer, _wave(members, 2 * members))


def _fit(trainer: Any, members: int, limit: int) -> tuple[Programs, int]:
    """The widest program that fits, and its bytes. The state alone rules widths out before anything is compiled."""
    most = limit // trees.nbytes(jax.eval_shape(trainer.init, jax.random.key(0)))
    while most >= 1:
        programs = Programs(trainer, _wave(members, most))
        needed = programs.peak_bytes()
        if needed <= limit:
            return programs, needed
        width = programs.layout.padded
        most = min(width - 1, width * limit // needed)
    raise InputError(f"one member does not fit the memory limit of {readable(limit)}")


def _wave(members: int, most: int) -> Layout:
    """The layout of equal waves that compute at most `most` members at once (padding counted), in as few as that allows."""
    for share in range(math.ceil(members / math.ceil(members / most)), 0, -1):
        layout = Layout.over_all_devices(share)
        if layout.padded <= most:
            break
    return dataclasses.replace(layout, members=layout.padded, width=layout.padded)


def available_bytes() -> int:
    """Memory that a sweep may take: the local accelerators' together, or what this machine has free."""
    stats = [device.memory_stats() for device in jax.local_devices() if device.platform != "cpu"]
    if stats and all(s and "bytes_limit" in s for s in stats):
        return sum(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats)
    return psutil.virtual_memory().available


def readable(count: int) -> str:
    """Bytes as a person writes them."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"


def read_bytes(text: str) -> int:
    """ "4GB", "500MB", "1e9" as a number of bytes. Raises ValueError."""
    word = text.strip().upper().removesuffix("B")
    scale = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(word[-1:], 1)
    try:
        count = int(float(word[:-1] if scale > 1 else word) * scale)
    except (ValueError, OverflowError) as error:
        raise InputError(f"memory limit {text!r} must be a number of bytes, as 4GB or 500MB") from error
    if count < 1:
        raise InputError(f"memory limit {text!r} must be more than none")
    return count
