"""Uniform sampling from a ring of transitions, with replacement."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.core.types import Key, PyTree
from jaxrl.replay.ring import Replay, Sampler, take


def sample(replay: Replay, key: Key, batch_size: int) -> PyTree:
    """`batch_size` stored transitions: leaves [B, ...]. At least one row must be written."""
    return take(replay.data, _slots(replay, key, batch_size, 1))


def sampler(batch_size: int, n_step: int) -> Sampler:
    """Every slot with n stored steps alike; at least n rows must be written."""

    def draw(priorities: PyTree, replay: Replay, key: Key) -> tuple[jax.Array, jax.Array]:
        return _slots(replay, key, batch_size, n_step), jnp.ones(batch_size, jnp.float32)

    return Sampler(lambda _: (), lambda priorities, _: priorities, draw, lambda priorities, *_: priorities)


def _slots(replay: Replay, key: Key, batch_size: int, n_step: int) -> jax.Array:
    """Slots int32 [B] in the filled - n + 1 oldest rows. 32 random bits modulo k are uniform to within k / 2³²."""
    rows, num_envs = replay.shape
    oldest = jnp.where(replay.filled == rows, replay.position, 0)
    choices = (replay.filled - n_step + 1) * num_envs
    drawn = jax.random.bits(key, (batch_size,)) % choices.astype(jnp.uint32)
    return (oldest * num_envs + drawn.astype(jnp.int32)) % (rows * num_envs)
