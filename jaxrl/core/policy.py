"""A trained policy as a plain function on the host: `action, memory = policy(obs, memory)`, NumPy in and out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import checks, spaces, trees
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.types import Clock, Key, PyTree, TrainState


class Policy:
    """What one member has learnt, to act with in any simulator. Compiled once for each batch size.

    greedy: the evaluation policy, as `jaxrl.evaluate` plays it; else the behaviour policy as at the end of training, whose
    draws follow from `seed` and the number of calls so far.
    """

    def __init__(self, trainer: Trainer, state: TrainState, *, greedy: bool = True, seed: int = 0) -> None:
        checks.one_member(state)
        self.spec = trainer.env.spec
        self._trainer, self._greedy, self._state = trainer, greedy, (state.hparams, state.agent)
        self._key, self._calls = jax.random.key(seed), 0
        space = self.spec.observation_space
        self._element = jax.eval_shape(lambda: space.sample(jax.random.key(0)))
        self._act = jax.jit(self._step)

    def __call__(self, obs: PyTree, memory: PyTree = None, first: Any = None) -> tuple[Any, PyTree]:
        """The action for an observation, and the memory to give back with the next one.

        obs: one observation, or a batch [N, ...] of them, and so is the action. memory: None at an episode's start.
        first: of a batch, where an episode starts, bool [N]: the memory is begun anew there.

        Raises InputError for an observation of another shape.
        """
        obs, size = self._batch(obs)
        n = 1 if size is None else size
        starts = np.full(n, memory is None) if first is None else np.broadcast_to(np.asarray(first, bool), (n,))
        memory = self._trainer.agent.memory(n) if memory is None else memory
        key = jax.random.fold_in(self._key, self._calls)
        self._calls += 1
        action, memory = self._act(*self._state, memory, obs, starts, key)
        action, memory = jax.tree.map(np.asarray, action), jax.tree.map(np.asarray, memory)
        return (trees.member(action, 0) if size is None else action), memory

    def _batch(self, obs: PyTree) -> tuple[PyTree, int | None]:
        """obs with a batch axis, in the space's dtypes, and how many there are; None for one by itself."""
        likes: list[Any] = jax.tree.leaves(self._element)
        structure: Any = jax.tree.structure(self._element)
        single_part = isinstance(self._element, jax.ShapeDtypeStruct)
        if not single_part and jax.tree.structure(obs) != structure:
            raise InputError(f"an observation of {self.spec.id} is {_parts(self._element)}, not {_parts(obs)}")
        leaves = [np.asarray(x) for x in ([obs] if single_part else jax.tree.leaves(obs))]
        if any(x.dtype.kind not in "biuf" for x in leaves):
            raise InputError(f"an observation of {self.spec.id} is of numbers, not {_parts(obs)}")
        single = leaves[0].ndim == len(likes[0].shape)
        size = 1 if single else (*leaves[0].shape, 0)[0]
        for x, like in zip(leaves, likes, strict=True):
            if x.shape != (like.shape if single else (size, *like.shape)):
                raise InputError(f"an observation of {self.spec.id} is {like.shape}, or [N] of them, not {x.shape}")
        cast = [x.astype(like.dtype).reshape(size, *like.shape) for x, like in zip(leaves, likes, strict=True)]
        return jax.tree.unflatten(structure, cast), None if single else size

    def _step(
        self, hparams: PyTree, agent_state: PyTree, memory: PyTree, obs: PyTree, first: jax.Array, key: Key
    ) -> tuple[PyTree, PyTree]:
        agent = self._trainer.agent
        memory = trees.where(first, agent.memory(first.shape[0]), memory)
        if self._greedy:
            action, memory = agent.greedy(hparams, agent_state, memory, obs, first, key)
        else:
            end = Clock(jnp.int32(self._trainer.total_steps), jnp.float32(1.0))
            action, memory, _ = agent.act(hparams, agent_state, memory, obs, first, end, key)
        return spaces.clip(self.spec.action_space, action), memory


def _parts(obs: Any) -> str:
    """An observation's structure in words: {a, b} of a dict, (int, str) of a tuple."""
    if isinstance(obs, dict):
        return "{" + ", ".join(map(str, obs)) + "}"
    return f"({', '.join(_parts(x) for x in obs)})" if isinstance(obs, tuple | list) else type(obs).__name__
