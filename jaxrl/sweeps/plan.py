"""What will be trained, decided before it is: configurations × seeds, programs, waves, bytes. A run is one configuration.

Configurations that differ in traced settings alone share a program, and are vmapped; each other static configuration is a
program of its own. Where the members of a program do not fit the memory, they train in waves of equal shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.numbers import counted
from jaxrl.core.settings import Count, NonNegative, check
from jaxrl.devices.layout import Layout
from jaxrl.devices.memory import available_bytes, readable
from jaxrl.devices.programs import Programs
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.members import Member, check_seeds
from jaxrl.experiment.search_space import Setting
from jaxrl.runs import callbacks, weights
from jaxrl.runs.wave import Wave

CountInt, NonNegativeInt = Annotated[int, Count], Annotated[int, NonNegative]


@dataclasses.dataclass
class Program:
    """A compiled program and the members that it trains, wave by wave.

    number: in the plan. members: all of them, by configuration, then seed; the last wave may hold fewer than the others.
    bytes: what a wave holds at its peak, as predicted from the compiled program; None where that was not asked for, or the
    machines that train are yet to find out how many members fit them: until `fit`, `compiled` is then a guess.
    """

    number: int
    experiment: Experiment
    members: tuple[Member, ...]
    compiled: Programs
    bytes: int | None = None
    _others: dict[Layout, Programs] = dataclasses.field(default_factory=dict)

    @property
    def compile_s(self) -> float:
        """Seconds spent on compiling so far, whatever the layout."""
        return sum(programs.compile_s for programs in (self.compiled, *self._others.values()))

    def fit(self, members: int, limit: int) -> None:
        """Choose the layout for so many members: the widest program that fits `limit` bytes. Raises ValueError."""
        self.compiled, self.bytes = _fit(self.compiled.trainer, members, limit)

    def compiled_for(self, layout: Layout) -> Programs:
        """The programs of a wave in that layout: the plan's own, or others, made when first asked for."""
        vmapped = layout.form == "vmap"
        shape = dataclasses.replace(layout, members=layout.padded, width=layout.padded) if vmapped else layout
        if shape == self.compiled.layout:
            return self.compiled
        return self._others.setdefault(shape, Programs(self.compiled.trainer, shape))

    def waves(self, eval_every: int, members: Sequence[Member] | None = None, layout: Layout | None = None) -> list[Wave]:
        """What to train, in order, of some members or of all, in the planned layout or another."""
        members, layout = tuple(self.members if members is None else members), layout or self.compiled.layout
        parts = [members[i : i + layout.padded] for i in range(0, len(members), layout.padded)]
        layouts = [dataclasses.replace(layout, members=len(part)) for part in parts]
        return [
            Wave(self.experiment, part, laid, eval_every, self.number) for part, laid in zip(parts, layouts, strict=True)
        ]


@dataclasses.dataclass
class Plan:
    """What will be trained: `configurations` (the varied settings of each) × seeds, as one program for each static setting.

    alone: whether it is a run: one configuration, one wave, one folder. eval_every: environment steps between greedy
    evaluations in training, 0 for none. memory_limit: bytes that a wave may hold on all devices of a machine together; None:
    what is free there. asked: the flags of `jaxrl sweep` that give the configurations. callbacks: names that take part.
    """

    base: Experiment
    configurations: list[Setting]
    seeds: int
    seed: int
    eval_every: int
    memory_limit: int | None
    program_list: list[Program]
    alone: bool = False
    asked: list[str] = dataclasses.field(default_factory=list)
    callbacks: list[str] = dataclasses.field(default_factory=list)
    extended: list[dict[str, int]] = dataclasses.field(default_factory=list)

    @property
    def programs(self) -> int:
        """Training programs to compile."""
        return len(self.program_list)

    @property
    def fitted(self) -> bool:
        """Whether every program was fitted to this machine."""
        return all(program.bytes is not None for program in self.program_list)

    @property
    def bytes(self) -> int | None:
        """Bytes held at the peak, predicted: that of the largest wave; None where not every program is fitted."""
        return max(program.bytes or 0 for program in self.program_list) if self.fitted else None

    @property
    def env_steps(self) -> int:
        """Environment steps of all members."""
        return sum(program.compiled.trainer.total_steps * len(program.members) for program in self.program_list)

    @property
    def compile_s(self) -> float:
        """Seconds spent on compiling so far."""
        return sum(program.compile_s for program in self.program_list)

    @property
    def sources(self) -> dict[str, dict[str, str]]:
        """The files of own code, those of callbacks included: {name: {"path", "sha256"}}."""
        return self.base.sources | callbacks.sources(self.callbacks)

    @property
    def caveat(self) -> str:
        """What simulators on the host cannot promise, in one line; "" where the environment is part of the program."""
        trainer = self.program_list[0].compiled.trainer
        host = trainer.vec.host
        if not host:
            return ""
        what = f"{self.base.env} is simulated on the host"
        if not host.restart_every:
            return f"{what}, and never starts anew (restart_every = 0): it has no checkpoint to go on from"
        none = trainer.restart_iterations >= trainer.num_iterations
        return (
            f"{what}: sameness and exact resume hold as far as a simulator's numbers follow from its seed; "
            f"all start anew every {host.restart_every:,} steps of each, where checkpoints are"
            + (": here none before the end (--env-kwarg restart_every=N)" if none else "")
        )

    @property
    def notes(self) -> list[str]:
        """What to know before training: which weights it begins with, and what simulators cannot promise.

        Raises InputError where a program's leaves cannot be loaded.
        """
        tables = [weights.lines(p.experiment, p.compiled.trainer) for p in self.program_list]
        initial = [*tables[0], *(f"program {i}: {table[0]}" for i, table in enumerate(tables) if i and table)]
        return [*initial, *([self.caveat] if self.caveat else [])]

    def lines(self) -> list[str]:
        """The plan as a table."""
        members = len(self.configurations) * self.seeds
        first = (
            f"plan: {len(self.configurations)} configurations × {self.seeds} seeds = {members} members, "
            f"{self.env_steps:,} steps, {counted(self.programs, 'program')}"
        )
        if not self.fitted:
            rows = [f"{p.number:>7} {len(p.members):>8}  {self.statics(p)}" for p in self.program_list]
            return [first, f"{'program':>7} {'members':>8}  static settings", *rows]
        lines = [
            f"{first} on {counted(jax.local_device_count(), f'{jax.local_devices()[0].platform} device')}",
            f"{'program':>7} {'members':>8} {'waves':>6} {'devices × width':>16} {'bytes':>10}  static settings",
        ]
        for program in self.program_list:
            layout = program.compiled.layout
            lines.append(
                f"{program.number:>7} {len(program.members):>8} {len(program.waves(self.eval_every)):>6} "
                f"{f'{layout.devices} × {layout.padded // layout.devices}':>16} {readable(program.bytes or 0):>10}  "
                + self.statics(program)
            )
        return [*lines, f"memory: {readable(self.bytes or 0)} at most, of {readable(self.memory_limit or 0)}"]

    def summary(self) -> dict[str, Any]:
        """What a machine reads of the plan."""
        return {
            "agent": self.base.agent,
            "env": self.base.env,
            "configs": self.configurations,
            "seeds": self.seeds,
            "env_steps": self.env_steps,
            "programs": self.programs,
            "members": len(self.configurations) * self.seeds,
            "waves": sum(len(p.waves(self.eval_every)) for p in self.program_list) if self.fitted else None,
            "devices": max(p.compiled.layout.devices for p in self.program_list) if self.fitted else None,
            "bytes": self.bytes,
            "memory_limit": self.memory_limit,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same plan."""
        return {
            "kind": "run" if self.alone else "sweep",
            **self.base.to_json(),
            "sources": self.sources,
            "configurations": self.configurations,
            "seeds": self.seeds,
            "seed": self.seed,
            "eval_every": self.eval_every,
            "memory_limit": self.memory_limit,
            "asked": self.asked,
            "callbacks": self.callbacks,
            "extended": self.extended,
            **({"caveat": self.caveat} if self.caveat else {}),
            **weights.describe(self.program_list[0].experiment, self.program_list[0].compiled.trainer),
            "programs": [
                {
                    "devices": p.compiled.layout.devices,
                    "width": p.compiled.layout.padded,
                    "bytes": p.bytes,
                    "members": len(p.members),
                }
                for p in self.program_list
            ],
        }

    def statics(self, program: Program) -> str:
        """The varied settings that make a program one of its own, as they are typed."""
        known = search_space.fields(self.base)
        setting = self.configurations[program.members[0].config or 0]
        return search_space.text({name: value for name, value in setting.items() if known[name].kind == "config"})


def make(
    base: Experiment,
    configurations: Sequence[Setting],
    seeds: int,
    seed: int,
    asked: Sequence[str] = (),
    *,
    eval_every: int = 0,
    memory_limit: int | None = None,
    fit: bool = True,
    callback_names: Sequence[str] = (),
) -> Plan:
    """Group, lay out and compile a sweep. Raises ValueError before any compile where a setting or the memory does not fit.

    fit: for this machine; otherwise those that train do it, each for itself, and nothing is compiled here.
    """
    _check(seeds, seed, eval_every, callback_names)
    programs = _programs(base, configurations, seeds, seed)
    if fit:
        memory_limit = memory_limit or available_bytes()
        for program in programs:
            program.fit(len(program.members), memory_limit)
    names = list(callback_names)
    return Plan(base, list(configurations), seeds, seed, eval_every, memory_limit, programs, False, list(asked), names)


def make_run(base: Experiment, seeds: int, seed: int, *, eval_every: int = 0, callback_names: Sequence[str] = ()) -> Plan:
    """The plan of a run: one configuration, all its seeds in one wave. Nothing is compiled yet. Raises ValueError."""
    _check(seeds, seed, eval_every, callback_names)
    base.check()
    programs = [_program_of_run(base, seeds, seed)]
    return Plan(base, [{}], seeds, seed, eval_every, None, programs, alone=True, callbacks=list(callback_names))


def from_json(base: Experiment, values: Mapping[str, Any], alone: bool) -> Plan:
    """The plan of a `to_json`: the same layouts, nothing compiled yet. base: its experiment."""
    configurations = [{n: tuple(v) if isinstance(v, list) else v for n, v in s.items()} for s in values["configurations"]]
    seeds, seed = values["seeds"], values["seed"]
    programs = [_program_of_run(base, seeds, seed)] if alone else _programs(base, configurations, seeds, seed)
    for program, kept in zip(programs, values["programs"], strict=True):
        program.bytes = kept["bytes"]
        if program.bytes is not None:
            layout = Layout(kept["width"], kept["devices"], kept["width"])
            program.compiled = Programs(program.compiled.trainer, layout)
    rest = {name: list(values.get(name, [])) for name in ("asked", "callbacks", "extended")}
    return Plan(base, configurations, seeds, seed, values["eval_every"], values["memory_limit"], programs, alone, **rest)


def by_config(
    base: Experiment, settings: Mapping[int, Setting], seeds: Sequence[int]
) -> list[tuple[Experiment, tuple[Member, ...]]]:
    """The seeds of each numbered setting as members, by static configuration, in order of first appearance."""
    found: dict[Any, tuple[Experiment, list[Member]]] = {}
    for number, setting in settings.items():
        experiment, parts = search_space.applied(base, setting), search_space.parted(base, setting)
        experiment.check()
        each = [Member(seed, number, parts["hparams"], base.env_params | parts["env"]) for seed in seeds]
        # What is switched off by None is part of the program's shape, as a Config is.
        off, values = _off(experiment), vars(experiment.hparams)
        changed = {name: values[name] for name in {*off} ^ {*_off(base)}}
        same = base.replace(config=experiment.config, hparams=changed)
        found.setdefault((experiment.config, *off), (same, []))[1].extend(each)
    return [(experiment, tuple(theirs)) for experiment, theirs in found.values()]


def _off(base: Experiment) -> list[str]:
    """The hyper-parameters that are None."""
    return [name for name, value in vars(base.hparams).items() if value is None]


def _check(seeds: int, seed: int, eval_every: int, callback_names: Sequence[str]) -> None:
    check("seeds", seeds, CountInt)
    check("seed", seed, NonNegativeInt)
    check("eval_every", eval_every, NonNegativeInt)
    check_seeds(seed, seeds)
    callbacks.check(callback_names, eval_every)


def _program_of_run(base: Experiment, seeds: int, seed: int) -> Program:
    members = tuple(Member(s) for s in range(seed, seed + seeds))
    return Program(0, base, members, Programs(base.trainer(), Layout.over_all_devices(seeds)))


def _programs(base: Experiment, configurations: Sequence[Setting], seeds: int, seed: int) -> list[Program]:
    """One for each static configuration, not compiled yet. Raises ValueError where settings do not fit together."""
    grouped = by_config(base, dict(enumerate(configurations)), range(seed, seed + seeds))
    trainers = [experiment.trainer() for experiment, _ in grouped]
    return [
        Program(number, experiment, members, Programs(trainer, _wave_layout(len(members), 2 * len(members))))
        for number, ((experiment, members), trainer) in enumerate(zip(grouped, trainers, strict=True))
    ]


def _fit(trainer: Any, members: int, limit: int) -> tuple[Programs, int]:
    """The widest program that fits, and its bytes. The state alone rules widths out before anything is compiled."""
    most = limit // trees.nbytes(jax.eval_shape(trainer.init, jax.random.key(0)))
    while most >= 1:
        programs = Programs(trainer, _wave_layout(members, most))
        needed = programs.peak_bytes()
        if needed <= limit:
            return programs, needed
        width = programs.layout.padded
        most = min(width - 1, width * limit // needed)
    raise InputError(f"one member does not fit the memory limit of {readable(limit)}")


def _wave_layout(members: int, most: int) -> Layout:
    """The layout of equal waves that compute at most `most` members at once (padding counted), in as few as that allows."""
    for share in range(math.ceil(members / math.ceil(members / most)), 0, -1):
        layout = Layout.over_all_devices(share)
        if layout.padded <= most:
            break
    return dataclasses.replace(layout, members=layout.padded, width=layout.padded)
