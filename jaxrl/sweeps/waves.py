"""The waves of a plan's directory: which there are, which are still to be cut, and training one to its end.

Wave W of program P lies in DIR/waves/P-W/; the only wave of a run lies in DIR itself. Which members a wave holds, and in
which layout, its own config.json says. Members that none holds are still to be cut into waves: by the plan's layout, or by
that of the machine that trains them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.devices.memory import available_bytes
from jaxrl.experiment.members import Member
from jaxrl.runs import checkpoint, directory, documents, files, sinks, snapshot, weights
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.driver import Stop, Training
from jaxrl.runs.progress import Progress
from jaxrl.runs.wave import CHECKPOINTS, Wave
from jaxrl.sweeps.plan import Plan, Program


@dataclasses.dataclass(frozen=True)
class Options:
    """How training is written, shown and watched; none of it changes a number.

    checkpoint_every: seconds. wandb: a project of Weights & Biases. callbacks: objects beside the plan's own. label: beside
    the progress. patience: seconds to wait longer than usual for another process that trains there. anyway: go on where
    something differs that decides bits.
    """

    checkpoint_every: float = 30.0
    tensorboard: bool = False
    wandb: str | None = None
    callbacks: tuple[Any, ...] = ()
    label: str = ""
    patience: float = 0.0
    anyway: bool = False


DEFAULTS = Options()
Engine = Callable[[Plan, Path, Options, Stop], tuple[float, int]]
"""Trains the waves of a sweep that are left; gives the seconds of compiling, and how many workers there were at once."""


def found(plan: Plan, folder: Path) -> list[Wave]:
    """The waves that were begun, in order. Raises ValueError where one is damaged, or two hold the same member."""
    if plan.alone:
        return [_wave_of(plan.program_list[0], folder, plan.eval_every)] if (folder / CONFIG).is_file() else []
    holders: dict[Any, Path] = {}
    waves = []
    for number, path in numbered(folder):
        if number >= plan.programs:
            raise InputError(f"{path} is damaged: the sweep has no program {number}")
        waves.append(_wave_of(plan.program_list[number], path, plan.eval_every))
        for member in waves[-1].members:
            if member.name in holders:
                raise InputError(f"{holders[member.name]} and {path} hold the same members; remove one of them")
            holders[member.name] = path
    return waves


def missing(plan: Plan, waves: Iterable[Wave]) -> list[tuple[Member, ...]]:
    """The members of each program that none of the waves holds."""
    held = {member.name for wave in waves for member in wave.members}
    return [tuple(m for m in program.members if m.name not in held) for program in plan.program_list]


def new_path(folder: Path, program: int, waves: Iterable[Wave]) -> Path:
    """Where the next wave of a program comes to lie, after these."""
    numbers = [int(wave.directory.name.partition("-")[2]) for wave in waves if wave.program == program]
    return folder / directory.WAVES / f"{program}-{max(numbers, default=-1) + 1}"


def planned(plan: Plan, folder: Path) -> list[Wave]:
    """The waves that were begun, then those that the other members are cut into on this machine."""
    waves = found(plan, folder)
    for number, members in enumerate(missing(plan, waves)):
        program = plan.program_list[number]
        if members and program.bytes is None:
            program.fit(len(members), plan.memory_limit or available_bytes())
        for wave in program.waves(plan.eval_every, members):
            waves.append(dataclasses.replace(wave, path=new_path(folder, number, waves)))
    return waves


def share_done(plan: Plan, wave: Wave) -> float:
    """How far a wave is by its newest checkpoint, 0 to 1: that only once it is finished."""
    if wave.finished:
        return 1.0
    newest = checkpoint.newest(wave.directory / CHECKPOINTS)
    return min(0.99, newest / plan.program_list[wave.program].compiled.trainer.num_iterations)


def finish(plan: Plan, wave: Wave, options: Options, stop: Stop, extra: Sequence[Any] = ()) -> dict[str, Any]:
    """Train a wave to its end: from the start, or from its newest checkpoint, or not at all where a sweep's is finished.

    extra: callbacks that draw, before the summary is written. Returns the summary. Raises ValueError, Interruption.
    """
    programs = plan.program_list[wave.program].compiled_for(wave.layout)
    if not plan.alone:
        if wave.finished:
            return documents.read(wave.directory / SUMMARY, documents.RUN_SUMMARY)
        if not wave.begun:
            shutil.rmtree(wave.directory, ignore_errors=True)  # killed before it was made
            described = wave.experiment.to_json() | directory.describe(wave) | directory.about()
            directory.create(wave.directory, {"kind": "wave", **described})
    directory.check_here(wave.directory, wave.layout, options.anyway)
    with contextlib.nullcontext() if plan.alone else directory.held(wave.directory, options.patience):
        restored = snapshot.restore(wave, programs.trainer)
        if restored is None and not options.anyway:
            weights.check_unchanged(wave.directory if plan.alone else wave.directory.parent.parent, wave.experiment)
        from_byte = restored.meta["metrics_bytes"] if restored else 0
        group = (wave.directory if plan.alone else wave.directory.parent.parent).resolve().name
        told = [
            *plan.callbacks,
            *options.callbacks,
            *extra,
            files.Files(wave, options.checkpoint_every, restored),
            *([sinks.TensorBoard(wave)] if options.tensorboard else []),
            *([sinks.Wandb(wave, options.wandb, group, from_byte)] if options.wandb else []),
            Progress(f"{wave.experiment.env} {wave.experiment.agent} {options.label}".rstrip()),
        ]
        with Training(wave, programs, told, restored, stop) as training:
            training.advance()
            return training.conclude()


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """The waves' directories that were made, each with its program's number, in order."""
    paths = [path for path in (folder / directory.WAVES).glob("*/") if (path / CONFIG).is_file()]
    numbers = {path: re.fullmatch(r"(\d+)-(\d+)", path.name) for path in paths}
    named = sorted((int(match[1]), int(match[2]), path) for path, match in numbers.items() if match)
    return [(program, path) for program, _, path in named]


def _wave_of(program: Program, path: Path, eval_every: int) -> Wave:
    """A wave as its config.json describes it, with the program's own members. Raises ValueError."""
    known = {member.name: member for member in program.members}
    members, layout = directory.read_members(path)
    for member in members:
        if member.name not in known:
            raise InputError(f"{path} is damaged: its program has no member {member.label}")
    own = tuple(known[member.name] for member in members)
    return Wave(program.experiment, own, layout, eval_every, program.number, path)
