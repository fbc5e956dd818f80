"""Proportional prioritised sampling (Schaul et al. 2016, section 3.3) from a ring of transitions.

A slot i is drawn with probability P(i) = p_i^α / Σ_k p_k^α, p its last error as the agent measures it, by strata of equal
mass. A new transition takes the highest weight so far; one whose n steps are not all stored, or that is not `valid`, weighs
nothing and is never drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.types import Key, Scalar
from jaxrl.replay import ring, sum_tree
from jaxrl.replay.ring import Replay, Sampler

LOWEST, HIGHEST = 1e-20, 1e30  # of a weight p^α: sums of them neither vanish nor overflow in float32
OFFSET = 1e-6  # keeps a transition without error in the draw


class Priorities(NamedTuple):
    """tree: weights p^α by slot. highest: the highest weight so far, float32 []."""

    tree: sum_tree.Tree
    highest: jax.Array


def sampler(batch_size: int, n_step: int, rollout_length: int) -> Sampler:
    """Slots in proportion to their weight; at least n rows must be written."""

    def init(replay: Replay) -> Priorities:
        rows, num_envs = replay.shape
        return Priorities(sum_tree.init(rows * num_envs), jnp.float32(1))

    def insert(priorities: Priorities, replay: Replay) -> Priorities:
        # By the age of a row, 0 the newest: n - 1 and more has n steps; the rollout changed that for the first T + n - 1.
        rows, num_envs = replay.shape
        age = jnp.arange(rollout_length + n_step - 1, dtype=jnp.int32)
        weight = jnp.where((age >= n_step - 1) & (age < replay.filled), priorities.highest, 0.0)
        row = (replay.position - 1 - age) % rows
        slots = (row[:, None] * num_envs + jnp.arange(num_envs, dtype=jnp.int32)[None, :]).reshape(-1)
        weight = jnp.where(ring.take(replay.data.valid, slots), jnp.repeat(weight, num_envs), 0.0)
        return priorities._replace(tree=sum_tree.assign(priorities.tree, slots, weight))

    def sample(priorities: Priorities, replay: Replay, key: Key) -> tuple[jax.Array, jax.Array]:
        total = sum_tree.total(priorities.tree)
        stratum = jnp.arange(batch_size, dtype=jnp.float32)
        share = (stratum + jax.random.uniform(key, (batch_size,), jnp.float32)) / batch_size
        slots = sum_tree.find(priorities.tree, share * total)
        choices = (replay.filled - n_step + 1) * replay.shape[1]
        return slots, jnp.where(total > 0, priorities.tree[0][slots] / total * choices.astype(jnp.float32), 1.0)

    def update(
        priorities: Priorities, slots: jax.Array, priority: jax.Array, exponent: Scalar, when: jax.Array
    ) -> Priorities:
        # A divergence may round to just below 0; only what is no number at all is nan_to_num's.
        weight = jnp.nan_to_num((jnp.maximum(priority, 0.0) + OFFSET) ** exponent, nan=HIGHEST)
        before = priorities.tree[0][slots]
        weight = jnp.where(when & (before > 0), jnp.clip(weight, LOWEST, HIGHEST), before)
        highest = jnp.where(when, jnp.maximum(priorities.highest, weight.max()), priorities.highest)
        return Priorities(sum_tree.assign(priorities.tree, slots, weight), highest)

    return Sampler(n_step, init, insert, sample, update)


def importance_weights(relative: jax.Array, exponent: Scalar) -> jax.Array:
    """w_i = (size · P(i))^-β over the largest of the batch: float32 [B] in [0, 1] (Schaul et al. 2016, section 3.4).

    relative: size · P(i), float32 [B]. exponent: β.
    """
    weights = relative**-exponent
    return weights / weights.max()
