"""A run directory: what it holds, and reading it back.

config.json     every setting, versions, git commit, devices, members (seeds, configurations), program form
metrics.jsonl   one line per (iteration, member); timing.jsonl: one line per chunk
checkpoints/    the last two, by iteration
summary.json    the finished run's result; curve.png, values.png (discrete states) and policy.gif: its pictures
tensorboard/, wandb/    what was asked for of these (see sinks.py)
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree
from jaxrl.devices import platform
from jaxrl.devices.layout import Layout
from jaxrl.devices.programs import Arguments
from jaxrl.experiment import experiment, registry
from jaxrl.experiment.experiment import Experiment
from jaxrl.runs.checkpoint import Checkpoints

CONFIG, METRICS, TIMING, SUMMARY = "config.json", "metrics.jsonl", "timing.jsonl", "summary.json"
CHECKPOINTS, CURVE, VALUES, GIF = "checkpoints", "curve.png", "values.png", "policy.gif"
FORMAT = 2
TENSORBOARD, WANDB = "tensorboard", "wandb"  # folders of the sinks
MAX_SEED = 2**31  # seeds are int32
LOCK_SECONDS = 10.0  # a process that was killed may take that long to end


class Member(NamedTuple):
    """What sets one member of a run apart. config: its number in a sweep, None where there is one configuration only.

    hparams, env_params: traced settings beside the experiment's own.
    """

    seed: int
    config: int | None = None
    hparams: Mapping[str, Any] = {}
    env_params: Mapping[str, Any] = {}

    @property
    def label(self) -> dict[str, int]:
        """How rows of metrics name it."""
        return {"seed": self.seed} if self.config is None else {"config": self.config, "seed": self.seed}

    def to_json(self) -> dict[str, Any]:
        """Its keywords, those at their defaults left out."""
        return {name: value for name, value in self._asdict().items() if value not in (None, {})}


def seeds_of(first: int, count: int) -> tuple[Member, ...]:
    """Members that differ in their seed alone."""
    check_seeds(first, count)
    return tuple(Member(seed) for seed in range(first, first + count))


def check_seeds(first: int, count: int) -> None:
    """Raises ValueError where one of `count` seeds, from `first` on, does not exist."""
    if first + count > MAX_SEED:
        raise InputError(f"seed = {first} is out of range: must be < 2**31 - {count}, for that many seeds")


@dataclasses.dataclass(frozen=True)
class Run:
    """One program and its members, trained together. eval_every: environment steps, 0 for never."""

    experiment: Experiment
    members: tuple[Member, ...]
    eval_every: int
    layout: Layout

    def arguments(self, trainer: Trainer) -> Arguments:
        """What `init` makes the members of. Root keys: seed k's is `key(k)`, whatever runs beside it."""
        hparams = [dataclasses.replace(self.experiment.hparams, **m.hparams) for m in self.members]
        env_id, default = self.experiment.env, trainer.env_params
        env_params = [registry.with_params(env_id, default, m.env_params) for m in self.members]
        pad = self.layout.pad
        keys = jax.vmap(jax.random.key)(pad(np.array([m.seed for m in self.members], np.int32)))
        return Arguments(keys, pad(_stacked(hparams)), pad(_stacked(env_params)))


def _stacked(trees: list[PyTree]) -> PyTree:
    """Leaves [members, ...] on the host, in the dtypes that JAX would give them."""

    def stack(*leaves: Any) -> np.ndarray:
        host = np.stack([np.asarray(x) for x in leaves])
        return host.astype(jax.dtypes.canonicalize_dtype(host.dtype))

    return jax.tree.map(stack, *trees)


def create(directory: Path, run: Run, overwrite: bool) -> None:
    """Make the directory and its config.json.

    Raises ValueError where it is not empty; with `overwrite`, a former run's files are removed instead.
    """
    if check_free(directory, overwrite, read_config, "run"):
        with held(directory / CONFIG):
            clear(directory)
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "jaxrl_run": FORMAT,
        **run.experiment.to_json(),
        "members": [member.to_json() for member in run.members],
        "eval_every": run.eval_every,
        "program": {"form": run.layout.form, "devices": run.layout.devices, "width": run.layout.padded},
        "versions": platform.versions(),
        "device": platform.device(),
        "git_commit": platform.git_commit(),
    }
    write_json(directory / CONFIG, values)


def clear(directory: Path) -> None:
    """Remove a former run's files, and nothing else."""
    for name in (CHECKPOINTS, TENSORBOARD, WANDB):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in (METRICS, TIMING, SUMMARY, CURVE, VALUES, GIF, CONFIG):
        (directory / name).unlink(missing_ok=True)


@contextmanager
def held(file: Path, patience: float = 0.0) -> Iterator[None]:
    """Be the only process that trains into a directory, known by a file in it that is never replaced.

    The system gives the lock back when a process ends, however it ends. Raises ValueError where another process keeps it for
    LOCK_SECONDS and those of `patience`.
    """
    deadline = time.monotonic() + LOCK_SECONDS + patience
    with open(file, "r+") as opened:  # on NFS only a file that may be written can be locked
        while not _locked(opened.fileno()):
            if time.monotonic() > deadline:
                raise InputError(f"{file.parent} is being trained by another process")
            time.sleep(0.1)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(f"the file system cannot lock files, so two processes could train there: {error}") from error
    return True


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part."""
    draft = path.with_name(path.name + ".tmp")
    with open(draft, "w") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that we wrote. Raises ValueError where it is damaged."""
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: it is no JSON object")
    return values


def read_document(directory: Path, name: str, mark: str, version: int, what: str) -> dict[str, Any]:
    """DIR/NAME, of which `mark` tells that we wrote it. Raises ValueError where there is none of ours, or it is damaged."""
    path = directory / name
    if not directory.is_dir():
        raise InputError(f"no {what} directory {directory}")
    if not path.is_file():
        raise InputError(f"{directory} is no {what} directory: it has no {name}")
    values = read_json(path)
    if values.get(mark) != version:
        raise InputError(f"{path} was not written by this version of jaxrl")
    return values


def check_free(directory: Path, overwrite: bool, read: Callable[[Path], Any], what: str) -> bool:
    """Whether something lies in the directory that is to be replaced.

    read: raises where the directory holds none of ours, for nothing else is ever removed. Raises ValueError where it is not
    empty and not to be replaced.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    if not overwrite:
        raise InputError(f"--out {directory} exists and is not empty; give another, or --overwrite a former {what}")
    read(directory)
    return True


def read_config(directory: Path) -> dict[str, Any]:
    """A run's config.json. Raises ValueError where the directory is none of ours, or damaged."""
    return read_document(directory, CONFIG, "jaxrl_run", FORMAT, "run")


def devices(directory: Path) -> int:
    """Over how many devices a run was laid. Raises ValueError."""
    program = read_config(directory).get("program", {})
    if not isinstance(program, dict) or not isinstance(program.get("devices"), int):
        raise InputError(f"{directory / CONFIG} is damaged: it has no program.devices")
    return program["devices"]


def read_members(directory: Path) -> tuple[tuple[Member, ...], Layout]:
    """A run's members and how they are laid out. Raises ValueError."""
    values = read_config(directory)
    try:
        members, program = tuple(Member(**member) for member in values["members"]), values["program"]
        return members, Layout(len(members), program["devices"], program["width"] if program["form"] == "vmap" else 0)
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG} is damaged: {error!r}") from error


def open_run(directory: Path) -> tuple[Run, dict[str, Any]]:
    """A run as its config.json describes it, and that file's values. Raises ValueError."""
    values = read_config(directory)
    members, layout = read_members(directory)
    try:
        run = Run(experiment.from_json(values), members, values["eval_every"], layout)
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG} is damaged: {error!r}") from error
    return run, values


def restore(directory: Path, run: Run, trainer: Trainer) -> tuple[PyTree, dict[str, Any]] | None:
    """The newest intact checkpoint's states [members] and meta; None where none was written yet."""
    if not (directory / CHECKPOINTS).is_dir():
        return None
    return Checkpoints(directory / CHECKPOINTS).restore(states_template(run, trainer))


def states_template(run: Run, trainer: Trainer) -> PyTree:
    """Shapes and dtypes of the TrainStates of all members, leaves [members, ...]."""
    keys = jax.eval_shape(jax.vmap(jax.random.key), jax.ShapeDtypeStruct((len(run.members),), jnp.int32))
    return jax.eval_shape(jax.vmap(trainer.init), keys)


def load(run_dir: str | Path) -> tuple[Trainer, PyTree]:
    """A run's trainer and its newest states, leaves [seeds, ...]; `jaxrl.member(states, i)` takes one.

    Raises ValueError for a directory that is no run, is damaged, or has no checkpoint yet.
    """
    directory = Path(run_dir)
    run, _ = open_run(directory)
    trainer = run.experiment.trainer()
    restored = restore(directory, run, trainer)
    if restored is None:
        raise InputError(f"{directory} has no checkpoint yet")
    return trainer, restored[0]
