"""Epochs of minibatches over the rows of a rollout: single steps, or whole sequences where the network has a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.types import Key, Metrics, PyTree


class Batch(NamedTuple):
    """What a loss reads: rows, leaves [B, ...] without a memory, [T, B, ...] with one; memory [B, ...] before step 0."""

    memory: PyTree
    rows: PyTree


Step = Callable[[PyTree, Batch, Any], tuple[PyTree, Metrics]]  # of (learner, minibatch, key or None)


def check(config: Any, network: Any) -> None:
    """Raises ValueError where a rollout's steps, or its sequences, do not part into minibatches of one size."""
    units, what = config.num_envs * config.rollout_length, "num_envs × rollout_length"
    if network.remembers:
        units, what = config.num_envs, f"num_envs (torso = {config.torso} draws whole sequences)"
    if units % config.num_minibatches:
        raise InputError(f"num_minibatches = {config.num_minibatches} must divide {what} = {units} into equal parts")


def whole(network: Any, memory: PyTree, rows: PyTree) -> Batch:
    """A rollout's rows [T, N, ...] as one batch; memory [N, ...]."""
    return Batch(memory, rows) if network.remembers else Batch((), trees.flatten_time(rows))


def shuffles(key: Key, num_epochs: int, size: int) -> jax.Array:
    """Random orders of `size` rows, one an epoch: int32 [num_epochs, size].

    Random bits above a row's number in one integer: XLA on CPU sorts those several times as fast as keys with values, and
    the sort of `jax.random.permutation` was a seventh of PPO's run. Rows whose bits tie, a share of size / 2^(32 - log₂
    size) at most, keep their order.
    """
    numbers = jnp.arange(size, dtype=jnp.uint32)
    low = jnp.uint32(2 ** (size - 1).bit_length() - 1)
    drawn = jax.random.bits(key, (num_epochs, size)) & ~low
    return (jnp.sort(drawn | jnp.broadcast_to(numbers, drawn.shape)) & low).astype(jnp.int32)


def descend(
    config: Any, network: Any, step: Step, learner: PyTree, memory: PyTree, rows: PyTree, key: Key
) -> tuple[PyTree, Metrics]:
    """`step(learner, minibatch, key)` over `num_epochs` shuffles of a rollout; metrics summed over all steps.

    The key is None where the Config has no dropout, the only thing that draws anything in a step.

    memory [N, ...], before step 0; rows [T, N, ...]. Every row is used once an epoch. One gather an epoch, and contiguous
    minibatches out of it.
    """
    # The axis of what is drawn comes first: steps, or environments with their whole sequences.
    units = Batch(memory, trees.swap_time(rows)) if network.remembers else whole(network, memory, rows)
    size = jax.tree.leaves(units)[0].shape[0]

    def step_in_time_order(learner: PyTree, xs: tuple[Batch, Any]) -> tuple[PyTree, Metrics]:
        drawn, key = xs
        return step(learner, Batch(drawn.memory, trees.swap_time(drawn.rows)) if network.remembers else drawn, key)

    def epoch(learner: PyTree, xs: tuple[jax.Array, Any]) -> tuple[PyTree, Metrics]:
        order, keys = xs
        shuffled = jax.tree.map(lambda x: x[order].reshape(config.num_minibatches, -1, *x.shape[1:]), units)
        return jax.lax.scan(step_in_time_order, learner, (trees.shared(shuffled, axis=1), keys))

    keys = None
    if config.dropout:
        key, step_key = jax.random.split(key)
        keys = jax.random.split(step_key, (config.num_epochs, config.num_minibatches))
    learner, metrics = jax.lax.scan(epoch, learner, (shuffles(key, config.num_epochs, size), keys))
    return learner, jax.tree.map(lambda x: x.sum((0, 1)), metrics)
