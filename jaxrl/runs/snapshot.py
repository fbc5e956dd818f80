"""Where a wave's training stands, read back: its newest intact checkpoint, if it is of these settings."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree
from jaxrl.runs import documents
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.runs.wave import CHECKPOINTS, Wave


class Snapshot(NamedTuple):
    """Where training goes on: states on the host [members], and what the checkpoint says (`Training.meta`)."""

    states: PyTree
    meta: dict[str, Any]


def restore(wave: Wave, trainer: Trainer, *, same_settings: bool = True) -> Snapshot | None:
    """The newest intact checkpoint of a wave's directory; None where none was written yet.

    same_settings: whether hyper-parameters are what config.json says, as they are but in a population. Raises ValueError.
    """
    if not (wave.directory / CHECKPOINTS).is_dir():
        return None
    checkpoints, template = Checkpoints(wave.directory / CHECKPOINTS), wave.template(trainer)
    found = checkpoints.restore(template)
    if not found:
        return None
    if found[1]["total_steps"] != trainer.total_steps:
        extended = documents.read_config(wave.directory).get("extended") or [{"to": None}]
        if extended[-1]["to"] != wave.experiment.total_steps:
            raise InputError(f"{wave.directory}: total_steps in config.json was changed; use jaxrl resume --total-steps")
        found = checkpoints.restore(template, lambda done: resumable(trainer, done))
        if not found:
            return None
    if same_settings:
        _check_settings(wave, trainer, found[0])
    return Snapshot(*found)


def resumable(trainer: Trainer, done: int) -> bool:
    """Whether training can go on from a state after `done` iterations; see `Trainer.restart_iterations`."""
    return trainer.restart_iterations > 0 and done % trainer.restart_iterations == 0


def _check_settings(wave: Wave, trainer: Any, states: Any) -> None:
    """Raises ValueError where config.json's settings are not those that the checkpoint was trained with."""
    arguments = wave.layout.unpad(wave.arguments(trainer))
    for said, trained in ((arguments.hparams, states.hparams), (arguments.env_params, states.env_params)):
        leaves = zip(jax.tree_util.tree_leaves_with_path(said), jax.tree.leaves(trained), strict=True)
        for (path, x), y in leaves:
            if not np.array_equal(np.asarray(x, y.dtype), y, equal_nan=y.dtype.kind == "f"):
                name = jax.tree_util.keystr(path, simple=True)
                raise InputError(
                    f"{wave.directory}: config.json says {name} = {np.ravel(x)[0]:.6g}, its checkpoint was trained with "
                    f"{np.ravel(y)[0]:.6g}; a changed setting is a new run"
                )
