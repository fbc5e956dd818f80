"""Epochs of minibatches over the rows of a rollout."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.types import Key, Metrics, PyTree

Step = Callable[[PyTree, PyTree], tuple[PyTree, Metrics]]


def check(units: int, num_minibatches: int, what: str = "num_envs × rollout_length") -> None:
    """Raises ValueError where the `units` of a rollout do not part into minibatches of one size. what: names them."""
    if units % num_minibatches:
        raise InputError(f"num_minibatches = {num_minibatches} must divide {what} = {units} into equal parts")


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
    step: Step, learner: PyTree, rows: PyTree, key: Key, num_epochs: int, num_minibatches: int
) -> tuple[PyTree, Metrics]:
    """`step(learner, minibatch)` over `num_epochs` shuffles of `rows`, leaves [R, ...]; metrics summed over all steps.

    Every row is used once an epoch. One gather an epoch, and contiguous minibatches out of it.
    """
    size = jax.tree.leaves(rows)[0].shape[0]

    def epoch(learner: PyTree, order: jax.Array) -> tuple[PyTree, Metrics]:
        shuffled = jax.tree.map(lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), rows)
        return jax.lax.scan(step, learner, trees.shared(shuffled, axis=1))

    learner, metrics = jax.lax.scan(epoch, learner, shuffles(key, num_epochs, size))
    return learner, jax.tree.map(lambda x: x.sum((0, 1)), metrics)
