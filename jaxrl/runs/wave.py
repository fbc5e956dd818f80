"""A wave: members of one program that train together, and where they are written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.core.loop import Trainer
from jaxrl.core.types import PyTree
from jaxrl.devices.layout import Layout
from jaxrl.devices.programs import Arguments
from jaxrl.experiment import registry
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.members import Member
from jaxrl.runs.documents import CONFIG, SUMMARY

CHECKPOINTS = "checkpoints"  # a wave's folder


@dataclasses.dataclass(frozen=True)
class Wave:
    """Members that one compiled program trains side by side.

    eval_every: environment steps between greedy evaluations, 0 for none. program: the number of its program in the plan.
    path: its directory; None in memory.
    """

    experiment: Experiment
    members: tuple[Member, ...]
    layout: Layout
    eval_every: int = 0
    program: int = 0
    path: Path | None = None

    @property
    def directory(self) -> Path:
        """Where it is written."""
        assert self.path is not None, "a wave in memory has no directory"
        return self.path

    @property
    def begun(self) -> bool:
        """Whether its directory was made."""
        return (self.directory / CONFIG).is_file()

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end, evaluated and summarised."""
        return (self.directory / SUMMARY).is_file()

    def arguments(self, trainer: Trainer) -> Arguments:
        """What `init` makes the members of. Root keys: seed k's is `key(k)`, whatever runs beside it."""
        hparams = [dataclasses.replace(self.experiment.hparams, **m.hparams) for m in self.members]
        env_id, default = self.experiment.env, trainer.env_params
        env_params = [registry.with_params(env_id, default, m.env_params) for m in self.members]
        pad = self.layout.pad
        keys = jax.vmap(jax.random.key)(pad(np.array([m.seed for m in self.members], np.int32)))
        return Arguments(keys, pad(_stacked(hparams)), pad(_stacked(env_params)))

    def template(self, trainer: Trainer) -> PyTree:
        """Shapes and dtypes of the members' TrainStates, leaves [members, ...]."""
        keys = jax.eval_shape(jax.vmap(jax.random.key), jax.ShapeDtypeStruct((len(self.members),), np.int32))
        return jax.eval_shape(jax.vmap(trainer.init), keys)

    def keep(self, index: np.ndarray, layout: Layout) -> Wave:
        """Only the members at `index`, laid out anew."""
        return dataclasses.replace(self, members=tuple(self.members[i] for i in index), layout=layout)


def _stacked(trees: list[PyTree]) -> PyTree:
    """Leaves [members, ...] on the host, in the dtypes that JAX would give them."""

    def stack(*leaves: Any) -> np.ndarray:
        host = np.stack([np.asarray(x) for x in leaves])
        return host.astype(jax.dtypes.canonicalize_dtype(host.dtype))

    return jax.tree.map(stack, *trees)
