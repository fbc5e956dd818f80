"""Observations that stack the last frames, stored a frame at a time: a transition costs one frame instead of 2 × stack.

Each environment has a ring of frames of its own: the newest frame of every next_obs, and that of an episode's first
observation. An observation is known by the number of its newest frame, counted since training began, and by its age in steps
of its episode; what came before an episode's first frame follows from `Stack.blank`. So the next_obs of a truncated step, of
which no next row knows, is there as well.

An episode's first observation is a frame more than it has steps. Rings of small frames have room for one a step, so nothing
is ever lost; those of `LARGE` ones for one in `SLACK` steps: once full, where episodes are shorter, the oldest transitions
lose their frames before their row, and are not valid then.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.trees import pytree, static
from jaxrl.core.types import Stack, Transition

SLACK = 64  # steps for which there is one frame more
LARGE = 1024  # bytes of a frame from which on room for one a step would cost too much


@pytree
class Frames:
    """ring: [F, N, ..., C], C the channels of one. count: written so far, int32 [1, N]. age: of the next observation that is
    no first one, int32 [1, N].
    """

    ring: jax.Array
    count: jax.Array
    age: jax.Array
    stack: Stack = static()


class Reference(NamedTuple):
    """An observation among the frames.

    newest: the number of its newest frame, int32 [...]. age: steps since its episode began, at most stack - 1, uint8 [...].
    """

    newest: jax.Array
    age: jax.Array


EXAMPLE = Reference(jnp.int32(0), jnp.uint8(0))


def init(obs: jax.Array, stack: Stack, rows: int, num_envs: int) -> Frames:
    """Room for the frames of `rows` steps. obs: an observation, [..., stack · C]."""
    frame = (*obs.shape[:-1], obs.shape[-1] // stack.size)
    large = math.prod(frame) * obs.dtype.itemsize >= LARGE
    size = rows + (rows // SLACK if large else rows) + stack.size + 1
    counts = jnp.zeros((1, num_envs), jnp.int32)
    return Frames(jnp.zeros((size, num_envs, *frame), obs.dtype), counts, counts, stack)


def push(frames: Frames, steps: Transition) -> tuple[Frames, Reference]:
    """Write a rollout's frames, leaves [T, N, ...]; what its observations are known by, [T, N]."""
    size, num_envs = frames.ring.shape[:2]
    channels, most, envs = frames.ring.shape[-1], frames.stack.size - 1, jnp.arange(num_envs)

    def write(carry: Any, step: Any) -> tuple[Any, Reference]:
        (ring, count, age), (first, obs, next_obs) = carry, step
        # The place `size` is none: in the middle of an episode obs is there already.
        ring = ring.at[jnp.where(first, count % size, size), envs].set(obs, mode="drop")
        count, age = count + first, jnp.where(first, 0, age)
        ring = ring.at[count % size, envs].set(next_obs)
        return (ring, count + 1, jnp.minimum(age + 1, most)), Reference(count - 1, age.astype(jnp.uint8))

    newest = [x[..., -channels:].astype(frames.ring.dtype) for x in (steps.obs, steps.next_obs)]
    start = (frames.ring, frames.count[0], frames.age[0])
    (ring, count, age), references = jax.lax.scan(write, start, (steps.first, *newest))
    return Frames(ring, count[None], age[None], frames.stack), references


def read(frames: Frames, at: Reference, env: jax.Array) -> jax.Array:
    """The observations [B, ...] of references [B] of environments int32 [B]."""
    size, num_envs = frames.ring.shape[:2]
    back = jnp.arange(frames.stack.size - 1, -1, -1, dtype=jnp.int32)[None, :]  # the oldest first
    age = at.age.astype(jnp.int32)[:, None]
    number = at.newest[:, None] - jnp.minimum(back, age)
    seen = frames.ring.reshape(-1, *frames.ring.shape[2:])[number % size * num_envs + env[:, None]]  # [B, stack, ..., C]
    if frames.stack.blank:
        before = (back > age).reshape(*number.shape, *(1,) * (seen.ndim - 2))
        seen = jnp.where(before, jnp.zeros((), seen.dtype), seen)
    stacked = jnp.moveaxis(seen, 1, -2)
    return stacked.reshape(*stacked.shape[:-2], -1)


def a_step_later(frames: Frames, at: Reference) -> Reference:
    """The next_obs of the steps whose obs is `at`."""
    return Reference(at.newest + 1, jnp.minimum(at.age + 1, frames.stack.size - 1).astype(jnp.uint8))


def stored(frames: Frames, at: Reference, env: jax.Array) -> jax.Array:
    """Whether all frames of references [B] are still there: bool [B]."""
    return at.newest - at.age.astype(jnp.int32) >= frames.count[0, env] - frames.ring.shape[0]
