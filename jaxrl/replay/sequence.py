"""Replay of sequences with the recurrent state that acting had at their start (Kapturowski et al. 2019, section 3).

Two rings side by side: one of steps, a row a time step, and one of starts, a row a rollout of T steps, which holds the
memory before the rollout's first step. A sequence begins where a rollout did and goes on for `length` steps through the
rollouts after it, never over the ring's write position. With length = burn_in + T, sequences overlap by burn_in and what
follows burn_in passes over every step once.

A sequence is known by its slot in the ring of starts, int32: rollout · N + environment, so that the samplers of
transitions draw sequences too: from `starts`, with n = `span` rollouts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.errors import InputError
from jaxrl.core.types import EnvSpec, PyTree, Transition
from jaxrl.replay import ring
from jaxrl.replay.frames import Frames
from jaxrl.replay.ring import Replay


class Start(NamedTuple):
    """Where a sequence can begin. memory: before a rollout's first step. valid: always True; the samplers ask for it."""

    memory: PyTree
    valid: jax.Array


class SequenceReplay(NamedTuple):
    """Two rings. steps: `Transition` with leaves [R · T, N, ...]. starts: `Start` with leaves [R, N, ...], one row for T."""

    steps: Replay
    starts: Replay


class Sequences(NamedTuple):
    """A batch of sequences. memory: leaves [B, ...], before the first step. steps: leaves [length, B, ...]."""

    memory: PyTree
    steps: Transition


def span(length: int, rollout_length: int) -> int:
    """How many rollouts a sequence touches."""
    return -(-length // rollout_length)


def init(
    spec: EnvSpec, step: Transition, memory: PyTree, capacity: int, num_envs: int, rollout_length: int, length: int
) -> SequenceReplay:
    """An empty buffer for at most `capacity` steps; where observations stack frames, each frame is stored once.

    step, memory: one of each, leaves [...]. Raises ValueError where not even one sequence of each environment fits.
    """
    rollouts, least = capacity // (num_envs * rollout_length), span(length, rollout_length)
    if rollouts < least:
        raise InputError(
            f"replay_capacity = {capacity} cannot hold a sequence of {length} steps of each of num_envs = {num_envs}: "
            f"in rollouts of rollout_length = {rollout_length} it takes {least * rollout_length * num_envs}"
        )
    steps = ring.init_transitions(spec, step, capacity, num_envs, rollout_length)
    return SequenceReplay(steps, ring.init(Start(memory, jnp.bool_(True)), rollouts * num_envs, num_envs, 1))


def push(replay: SequenceReplay, steps: Transition, memory: PyTree) -> SequenceReplay:
    """Write a rollout over the oldest: steps, leaves [T, N, ...], and the memory before step 0, leaves [N, ...]."""
    start = Start(memory, jnp.ones(replay.starts.shape[1], bool))
    return SequenceReplay(
        ring.push_transitions(replay.steps, steps), ring.push(replay.starts, jax.tree.map(lambda x: x[None], start))
    )


def read(replay: SequenceReplay, slots: jax.Array, length: int) -> Sequences:
    """The sequences of `slots` int32 [B]. One that has lost frames is not valid at all: a memory would go over the gap."""
    (rows, num_envs), rollouts = replay.steps.shape, replay.starts.shape[0]
    first_row = slots // num_envs * (rows // rollouts)
    row = (first_row[None, :] + jnp.arange(length, dtype=jnp.int32)[:, None]) % rows  # [length, B]
    memory = ring.take(replay.starts.data.memory, slots)
    at = row * num_envs + (slots % num_envs)[None, :]
    steps = ring.read(replay.steps, at)
    if isinstance(replay.steps.frames, Frames):
        lost = ring.take(replay.steps.data.valid, at) & ~steps.valid
        steps = steps._replace(valid=steps.valid & ~lost.any(0, keepdims=True))
    return Sequences(memory, steps)
