"""A directory that training writes into: made once, held by one process at a time, read back.

config.json     every setting, versions, git commit, devices and what else decides bits; of a wave its members and layout
metrics.jsonl   one line for each iteration and member; timing.jsonl: one line for each chunk
checkpoints/    the last two, by iteration; best/: what the callback keep_best kept
summary.json    the result, once finished; curve.png, values.png (discrete states) and policy.gif: its pictures
tensorboard/, wandb/    what was asked for of these (see sinks.py)

A run has all of these in one folder. A sweep has its plan and its result there, and a folder like this for each wave.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

from jaxrl.core import durable
from jaxrl.core.errors import InputError
from jaxrl.devices import bits, platform
from jaxrl.devices.layout import Layout
from jaxrl.experiment import experiment
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.members import Member
from jaxrl.runs import documents
from jaxrl.runs.callbacks import BEST
from jaxrl.runs.documents import CONFIG, SUMMARY
from jaxrl.runs.metrics import METRICS, TIMING
from jaxrl.runs.wave import CHECKPOINTS, Wave

CURVE, VALUES, GIF = "curve.png", "values.png", "policy.gif"
CURVES, EFFECTS, TRIALS = "curves.png", "effects.png", "trials.png"
WAVES, CONFIRMATION, STUDY, ROUNDS = "waves", "confirmation", "study.db", "rounds.jsonl"
TENSORBOARD, WANDB = "tensorboard", "wandb"  # folders of the sinks
FOLDERS = (CHECKPOINTS, BEST, TENSORBOARD, WANDB, WAVES, CONFIRMATION)
FILES = (METRICS, TIMING, SUMMARY, CURVE, VALUES, GIF, CURVES, EFFECTS, TRIALS, STUDY, ROUNDS, CONFIG)
LOCK_SECONDS = 10.0  # a process that was killed may take that long to end


def about() -> dict[str, Any]:
    """Where and with what something is trained, as config.json says it."""
    return {
        "versions": platform.versions(),
        "device": platform.device(),
        "bits": bits.bits(),
        "git_commit": platform.git_commit(),
    }


def create(directory: Path, values: Mapping[str, Any], overwrite: bool = False) -> None:
    """Make the directory and its config.json.

    Raises ValueError where it is not empty; with `overwrite`, what we wrote there before is removed instead.
    """
    if check_free(directory, overwrite):
        with held(directory):
            clear(directory)
    try:
        durable.make_directory(directory.absolute())
        documents.write(directory / CONFIG, {"jaxrl": documents.FORMAT, **values})
    except OSError as error:
        raise InputError(f"--out {directory} cannot be written to: {error.strerror}") from error


def describe(wave: Wave) -> dict[str, Any]:
    """What config.json says of a wave beside its experiment."""
    layout = wave.layout
    return {
        "members": [member.to_json() for member in wave.members],
        "eval_every": wave.eval_every,
        "program": {"form": layout.form, "devices": layout.devices, "width": layout.padded},
    }


def check_free(directory: Path, overwrite: bool) -> bool:
    """Whether something of ours lies in the directory that is to be replaced.

    Raises ValueError where it is no place to write to, or not empty and not to be replaced.
    """
    try:
        if directory.is_symlink() and not directory.exists():
            raise InputError(f"--out {directory} is a link to nothing")
        if directory.exists() and not directory.is_dir():
            raise InputError(f"--out {directory} is a file; give a directory")
        parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(f"--out {directory}: {parent} cannot be written to")
        if not directory.exists() or not any(directory.iterdir()):
            return False
    except (OSError, StopIteration) as error:  # the working directory is gone, or may not be read
        raise InputError(f"--out {directory} cannot be written to: {error}") from error
    if not overwrite:
        raise InputError(f"--out {directory} exists and is not empty; give another, or --overwrite what was trained there")
    documents.read_config(directory)  # nothing but ours is ever removed
    return True


def clear(directory: Path) -> None:
    """Remove what we wrote, and nothing else."""
    for name in FOLDERS:
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in FILES:
        (directory / name).unlink(missing_ok=True)


@dataclasses.dataclass
class Lock:
    """A directory's config.json, held by this process alone until the files in `exits` are closed."""

    directory: Path
    exits: ExitStack

    def rewrite(self, values: Mapping[str, Any]) -> None:
        """Replace config.json; the new file is held before it is there."""
        draft = self.directory / (CONFIG + durable.DRAFT)
        _locked(self.exits.enter_context(open(draft, "w")).fileno())
        documents.write(self.directory / CONFIG, values)


@contextmanager
def held(directory: Path, patience: float = 0.0) -> Iterator[Lock]:
    """Be the only process that trains into a directory, known by its config.json.

    The system gives the lock back when a process ends, however it ends. Raises ValueError where another process keeps it for
    LOCK_SECONDS and those of `patience`.
    """
    deadline = time.monotonic() + LOCK_SECONDS + patience
    while True:
        with ExitStack() as exits:
            opened = exits.enter_context(_open(directory / CONFIG))
            while not _locked(opened.fileno()):
                if time.monotonic() > deadline:
                    raise InputError(f"{directory} is being trained by another process")
                time.sleep(0.1)
            path = directory / CONFIG
            if path.exists() and os.path.samestat(os.fstat(opened.fileno()), path.stat()):  # else replaced before we had it
                yield Lock(directory, exits)
                return


def _open(path: Path) -> Any:
    try:
        return open(path, "r+")  # on NFS only a file that may be written can be locked
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}") from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(f"the file system cannot lock files, so two processes could train there: {error}") from error
    return True


def read_experiment(directory: Path, values: Mapping[str, Any], anyway: bool = False) -> Experiment:
    """The experiment that a directory's config.json describes. Raises ValueError."""
    try:
        return experiment.from_json(values, anyway=anyway)
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG} is damaged: {error!r}") from error


def read_members(directory: Path) -> tuple[tuple[Member, ...], Layout]:
    """Which members a wave's directory holds, and how they are laid out. Raises ValueError."""
    path, values = directory / CONFIG, documents.read_config(directory, "run", "wave", "population")
    program, listed = values["program"], values["members"]
    documents.check(program, f"{path}: program", {"form": str, "devices": int, "width": int})
    for member in listed:
        documents.check(member, f"{path}: members", {"seed": int})
        optional = {name: kind for name, kind in MEMBER.items() if name in member}
        documents.check(member, f"{path}: members", optional)
    width = program["width"] if program["form"] == "vmap" else 0
    if not listed or program["devices"] < 1 or not 0 <= width < 2**31 or width % program["devices"]:
        raise InputError(f"{path} is damaged: its members or its program cannot be")
    members = tuple(Member(**{name: x for name, x in m.items() if name in Member._fields}) for m in listed)
    return members, Layout(len(members), program["devices"], width)


def read_wave(directory: Path, anyway: bool = False) -> Wave:
    """A run, a population or one wave of a sweep by its own config.json. Raises ValueError."""
    members, layout = read_members(directory)
    values = documents.read_config(directory)
    experiment = read_experiment(directory, values, anyway)
    return Wave(experiment, members, layout, values["eval_every"], path=directory)


MEMBER = {"seed": int, "config": int, "hparams": dict, "env_params": dict}


def mark(directory: Path, lock: Lock, sources: Mapping[str, Any]) -> None:
    """Say in config.json, under `went_on_with`, what differs here that decides bits, changed own files included."""
    values = documents.read_config(directory)
    different = bits.differences(values["bits"], bits.bits())
    different += [f"{name} has changed" for name, file in sources.items() if values.get("sources", {}).get(name) != file]
    if different:
        lock.rewrite(values | {"went_on_with": [*values.get("went_on_with", []), *different]})


def check_here(directory: Path, layout: Layout, anyway: bool = False) -> None:
    """Raises ValueError where a wave would not go on bit for bit here.

    anyway: go on although something differs that decides bits.
    """
    values = documents.read_config(directory)
    if layout.devices > jax.local_device_count():
        raise InputError(
            f"{directory} ran on {layout.devices} devices, here are {jax.local_device_count()}: "
            "its numbers depend on its layout, so it cannot go on here"
        )
    began = values["device"].get("platform", jax.default_backend())
    if began != jax.default_backend():
        raise InputError(
            f"{directory} ran on {began}, here is {jax.default_backend()}: its numbers would not go on as they began"
        )
    different = bits.differences(values["bits"], bits.bits())
    if different and not anyway:
        raise InputError(f"{directory} would go on with other bits: {'; '.join(different)} (--anyway goes on, and marks it)")
