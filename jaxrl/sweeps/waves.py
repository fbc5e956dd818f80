"""The waves of a sweep's directory: DIR/waves/G-W/ is the run directory of wave W of program G.

Which members a wave holds, and in which layout, its own config.json says. Members that none holds are still to be cut into
waves: by the plan's layout, or by that of the machine that trains them.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.core.errors import InputError
from jaxrl.runs import checkpoint, metrics, run, rundir
from jaxrl.runs.rundir import Member, Run
from jaxrl.sweeps import planning
from jaxrl.sweeps.planning import Group, Plan

WAVES = "waves"


class Part(NamedTuple):
    """A wave of a sweep: its group's number in the plan, its run and its directory."""

    group: int
    run: Run
    path: Path

    @property
    def begun(self) -> bool:
        """Whether its directory was made."""
        return (self.path / rundir.CONFIG).is_file()

    @property
    def finished(self) -> bool:
        """Whether it was trained to the end, evaluated and summarised."""
        return (self.path / rundir.SUMMARY).is_file()


def found(plan: Plan, directory: Path) -> list[Part]:
    """The waves that were begun, in order. Raises ValueError where one is damaged, or two hold the same member."""
    holders: dict[Any, Path] = {}
    parts = []
    for number, path in numbered(directory):
        if number >= len(plan.groups):
            raise InputError(f"{path} is damaged: the sweep has no program {number}")
        parts.append(Part(number, _run_of(plan.groups[number], path, plan.eval_every), path))
        for member in parts[-1].run.members:
            name = metrics.name_of(member.label)
            if name in holders:
                raise InputError(f"{holders[name]} and {path} hold the same members; remove one of them")
            holders[name] = path
    return parts


def missing(plan: Plan, parts: Sequence[Part]) -> list[tuple[Member, ...]]:
    """The members of each group that none of the waves holds."""
    held = {metrics.name_of(member.label) for part in parts for member in part.run.members}
    return [tuple(m for m in group.members if metrics.name_of(m.label) not in held) for group in plan.groups]


def new_path(directory: Path, group: int, parts: Sequence[Part]) -> Path:
    """Where the next wave of a group comes to lie, after those in `parts`."""
    numbers = [int(part.path.name.partition("-")[2]) for part in parts if part.group == group]
    return directory / WAVES / f"{group}-{max(numbers, default=-1) + 1}"


def planned(plan: Plan, directory: Path) -> list[Part]:
    """The waves that were begun, then those that the other members are cut into on this machine."""
    parts = found(plan, directory)
    for number, members in enumerate(missing(plan, parts)):
        group = plan.groups[number]
        if members and group.bytes is None:
            group.fit(len(members), plan.memory_limit or planning.available_bytes())
        for wave in group.waves(plan.eval_every, members):
            parts.append(Part(number, wave, new_path(directory, number, parts)))
    return parts


def share_done(plan: Plan, part: Part) -> float:
    """How far a wave is by its newest checkpoint, 0 to 1: that only once it is finished."""
    if part.finished:
        return 1.0
    newest = checkpoint.newest(part.path / rundir.CHECKPOINTS)
    return min(0.99, newest / plan.groups[part.group].programs.trainer.num_iterations)


def finish(plan: Plan, part: Part, options: run.Options) -> dict[str, Any]:
    """Train a wave to its end: from the start, or from its newest checkpoint, or not at all where it is finished.

    Returns its summary. Raises ValueError, Interrupted.
    """
    programs = plan.groups[part.group].programs_of(part.run.layout)
    how = dataclasses.replace(options, pictures=False, group=part.path.parent.parent.resolve().name)
    if part.finished:
        return rundir.read_json(part.path / rundir.SUMMARY)
    if part.begun:
        return run.resume(part.path, how, programs)
    shutil.rmtree(part.path, ignore_errors=True)  # killed before it was made
    return run.train(part.run, part.path, how, programs=programs)


def numbered(directory: Path) -> list[tuple[int, Path]]:
    """The waves' directories that were made, each with its group's number, in order."""
    paths = [path for path in (directory / WAVES).glob("*/") if (path / rundir.CONFIG).is_file()]
    numbers = {path: re.fullmatch(r"(\d+)-(\d+)", path.name) for path in paths}
    named = sorted((int(match[1]), int(match[2]), path) for path, match in numbers.items() if match)
    return [(group, path) for group, _, path in named]


def _run_of(group: Group, path: Path, eval_every: int) -> Run:
    """A wave as its config.json describes it, with the group's own members. Raises ValueError."""
    known = {metrics.name_of(member.label): member for member in group.members}
    members, layout = rundir.read_members(path)
    for member in members:
        if metrics.name_of(member.label) not in known:
            raise InputError(f"{path} is damaged: its program has no member {member.label}")
    return Run(group.experiment, tuple(known[metrics.name_of(m.label)] for m in members), eval_every, layout)
