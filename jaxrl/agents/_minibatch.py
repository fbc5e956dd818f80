"""Epochs of minibatches over the rows of a rollout."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxrl.errors import InputError
from jaxrl.types import Key, Metrics, PyTree

Step = Callable[[PyTree, PyTree], tuple[PyTree, Metrics]]


def check(units: int, num_minibatches: int, what: str = "num_envs × rollout_length") -> None:
    """Raises ValueError where the `units` of a rollout do not part into minibatches of one size. what: names them."""
    if units % num_minibatches:
        raise InputError(f"num_minibatches = {num_minibatches} must divide {what} = {units} into equal parts")


def descend(
    step: Step, learner: PyTree, rows: PyTree, key: Key, num_epochs: int, num_minibatches: int
) -> tuple[PyTree, Metrics]:
    """`step(learner, minibatch)` over `num_epochs` shuffles of `rows`, leaves [R, ...]; metrics summed over all steps.

    Every row is used once an epoch. One gather an epoch, and contiguous minibatches out of it.
    """
    size = jax.tree.leaves(rows)[0].shape[0]

    def epoch(learner: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        order = jax.random.permutation(key, size)
        shuffled = jax.tree.map(lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), rows)
        return jax.lax.scan(step, learner, shuffled)

    learner, metrics = jax.lax.scan(epoch, learner, jax.random.split(key, num_epochs))
    return learner, jax.tree.map(lambda x: x.sum((0, 1)), metrics)
