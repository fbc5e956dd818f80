"""Uniform replay: a ring of rows [rows, N], one row a time step of N environments.

A push writes whole rows with one contiguous update, which XLA does in place; sampling gathers, at a cost that depends on
the batch and not on the capacity. A buffer must never pass through `where` or a vmapped `cond`: that would copy it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import InputError
from jaxrl.types import Key, PyTree


class Replay(NamedTuple):
    """data: leaves [rows, N, ...]. position: int32 [], the row to write next. filled: int32 [], rows ever written."""

    data: PyTree
    position: jax.Array
    filled: jax.Array


def init(example: PyTree, capacity: int, num_envs: int, rollout_length: int) -> Replay:
    """An empty buffer for at most `capacity` transitions.

    example: one transition, leaves [...]. Rows come in whole rollouts, so that a push never wraps inside.
    Raises ValueError where not even one rollout fits.
    """
    rows = capacity // (num_envs * rollout_length) * rollout_length
    if rows == 0:
        raise InputError(
            f"replay_capacity = {capacity} cannot hold one rollout of num_envs × rollout_length = "
            f"{num_envs * rollout_length} transitions"
        )
    data = jax.tree.map(lambda x: jnp.zeros((rows, num_envs, *x.shape), x.dtype), example)
    return Replay(data, jnp.int32(0), jnp.int32(0))


def push(replay: Replay, steps: PyTree) -> Replay:
    """Write a rollout, leaves [T, N, ...], over the oldest rows."""
    rows = jax.tree.leaves(replay.data)[0].shape[0]
    length = jax.tree.leaves(steps)[0].shape[0]
    data = jax.tree.map(
        lambda buffer, x: jax.lax.dynamic_update_slice_in_dim(buffer, x.astype(buffer.dtype), replay.position, 0),
        replay.data,
        steps,
    )
    return Replay(data, (replay.position + length) % rows, jnp.minimum(replay.filled + length, rows))


def sample(replay: Replay, key: Key, batch_size: int) -> PyTree:
    """`batch_size` stored transitions, uniformly and with replacement: leaves [B, ...]. At least one row must be written.

    Rows fill from 0 upwards, so the written slots are always the first `filled` × N. The remainder of 32 random bits is
    uniform to within slots / 2³².
    """
    num_envs = jax.tree.leaves(replay.data)[0].shape[1]
    slots = (replay.filled * num_envs).astype(jnp.uint32)
    index = jax.random.bits(key, (batch_size,)) % slots
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[index], replay.data)
