"""A run directory: what it holds, and reading it back.

config.json     every setting, versions, git commit, devices, seeds, program form
metrics.jsonl   one line per (iteration, seed); timing.jsonl: one line per chunk
checkpoints/    the last two, by iteration
summary.json    the finished run's result; curve.png, values.png (discrete states) and policy.gif: its pictures
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import experiment, platform
from jaxrl.checkpoint import Checkpoints
from jaxrl.errors import InputError
from jaxrl.experiment import Experiment
from jaxrl.layout import Layout
from jaxrl.loop import Trainer
from jaxrl.types import Key, PyTree

CONFIG, METRICS, TIMING, SUMMARY = "config.json", "metrics.jsonl", "timing.jsonl", "summary.json"
CHECKPOINTS, CURVE, VALUES, GIF = "checkpoints", "curve.png", "values.png", "policy.gif"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """One experiment with several seeds. seed: the first one. eval_every: environment steps, 0 for never."""

    experiment: Experiment
    seeds: int
    seed: int
    eval_every: int
    layout: Layout

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds, one a member."""
        return list(range(self.seed, self.seed + self.seeds))

    def keys(self) -> Key:
        """Root keys [padded]: seed k's is `key(k)`, whatever runs beside it."""
        return jax.vmap(jax.random.key)(self.layout.pad(jnp.array(self.seed_numbers)))


def create(directory: Path, run: Run, overwrite: bool) -> None:
    """Make the directory and its config.json.

    Raises ValueError where it is not empty; with `overwrite`, a former run's files are removed instead.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        if not overwrite:
            raise InputError(f"--out {directory} exists and is not empty; give another, or --overwrite a former run")
        clear(directory)
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "jaxrl_run": FORMAT,
        **run.experiment.to_json(),
        "seeds": run.seeds,
        "seed": run.seed,
        "eval_every": run.eval_every,
        "program": {"form": run.layout.form, "devices": run.layout.devices},
        "versions": platform.versions(),
        "device": platform.device(),
        "git_commit": platform.git_commit(),
    }
    write_json(directory / CONFIG, values)


def clear(directory: Path) -> None:
    """Remove a former run's files. Raises ValueError where the directory is no run: nothing else is ever removed."""
    import shutil

    read_config(directory)
    for name in (CHECKPOINTS, "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in (METRICS, TIMING, SUMMARY, CURVE, VALUES, GIF, CONFIG):
        (directory / name).unlink(missing_ok=True)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part."""
    draft = path.with_name(path.name + ".tmp")
    with open(draft, "w") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_config(directory: Path) -> dict[str, Any]:
    """A run's config.json. Raises ValueError where the directory is none of ours, or damaged."""
    path = directory / CONFIG
    if not directory.is_dir():
        raise InputError(f"no run directory {directory}")
    if not path.is_file():
        raise InputError(f"{directory} is no run directory: it has no {CONFIG}")
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict) or values.get("jaxrl_run") != FORMAT:
        raise InputError(f"{path} was not written by this version of jaxrl")
    return values


def devices(directory: Path) -> int:
    """Over how many devices a run was laid. Raises ValueError."""
    program = read_config(directory).get("program", {})
    if not isinstance(program, dict) or not isinstance(program.get("devices"), int):
        raise InputError(f"{directory / CONFIG} is damaged: it has no program.devices")
    return program["devices"]


def open_run(directory: Path) -> tuple[Run, dict[str, Any]]:
    """A run as its config.json describes it, and that file's values. Raises ValueError."""
    values = read_config(directory)
    try:
        layout = Layout(values["seeds"], values["program"]["devices"])
        run = Run(experiment.from_json(values), values["seeds"], values["seed"], values["eval_every"], layout)
    except (KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG} is damaged: {error!r}") from error
    return run, values


def restore(directory: Path, run: Run, trainer: Trainer) -> tuple[PyTree, dict[str, Any]] | None:
    """The newest intact checkpoint's states [seeds] and meta; None where none was written yet."""
    if not (directory / CHECKPOINTS).is_dir():
        return None
    return Checkpoints(directory / CHECKPOINTS).restore(states_template(run, trainer))


def states_template(run: Run, trainer: Trainer) -> PyTree:
    """Shapes and dtypes of the TrainStates of all seeds, leaves [seeds, ...]."""
    keys = jax.eval_shape(jax.vmap(jax.random.key), jax.ShapeDtypeStruct((run.seeds,), jnp.int32))
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
