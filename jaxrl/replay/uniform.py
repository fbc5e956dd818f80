"""Uniform sampling from a ring of transitions, with replacement."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.core.types import Key
from jaxrl.replay.ring import Replay, Sampler


def draw_slots(replay: Replay, key: Key, batch_size: int, n_step: int = 1) -> jax.Array:
    """Slots from which n steps are stored, all alike: int32 [B]. At least n rows must be written.

    32 random bits modulo k are uniform to within k / 2³².
    """
    rows, num_envs = replay.shape
    oldest = jnp.where(replay.filled == rows, replay.position, 0)
    choices = (replay.filled - n_step + 1) * num_envs
    drawn = jax.random.bits(key, (batch_size,)) % choices.astype(jnp.uint32)
    return (oldest * num_envs + drawn.astype(jnp.int32)) % (rows * num_envs)


def sampler(batch_size: int, n_step: int) -> Sampler:
    """`draw_slots` as a Sampler, without priorities."""

    def sample(priorities: tuple[()], replay: Replay, key: Key) -> tuple[jax.Array, jax.Array]:
        return draw_slots(replay, key, batch_size, n_step), jnp.ones(batch_size, jnp.float32)

    return Sampler(n_step, lambda replay: (), lambda priorities, replay: (), sample, lambda priorities, *rest: ())
