"""Behaviour policies over action values, and their schedules."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.core.spaces import Space, legal_actions
from jaxrl.core.types import Key, PyTree, Scalar
from jaxrl.ops.values import ILLEGAL


def linear_schedule(progress: jax.Array, start: Scalar, end: Scalar, fraction: Scalar) -> jax.Array:
    """From `start` to `end` over the first `fraction` of training, then `end`: float32 [].

    progress: float32 [] in [0, 1]. A fraction of 0 is `end` from the first step.
    """
    done = jnp.where(fraction > 0, progress / jnp.where(fraction > 0, fraction, 1.0), 1.0)
    return start + (end - start) * jnp.minimum(done, 1.0)


def greedy(q_values: jax.Array) -> jax.Array:
    """The first action of the highest value: int32 [...]. q_values: float32 [..., A]."""
    return jnp.argmax(q_values, -1).astype(jnp.int32)


def epsilon_greedy(key: Key, q_values: jax.Array, epsilon: Scalar, masked: bool = False) -> jax.Array:
    """A uniform action with probability ε, else the first greedy one (Sutton & Barto, 2nd ed., section 2.2).

    q_values: float32 [A]. masked: whether values may be `ILLEGAL`, whose actions are never taken. Returns int32 []. One draw
    serves both choices: u < ε decides to explore, and u / ε, then uniform on [0, 1), which action.
    """
    legal = q_values > ILLEGAL / 2
    num_actions = legal.sum() if masked else q_values.shape[-1]
    u = jax.random.uniform(key, dtype=jnp.float32)
    explored = jnp.minimum((u / jnp.maximum(epsilon, 1e-30) * num_actions).astype(jnp.int32), num_actions - 1)
    if masked:  # the so-many-th of the legal ones
        explored = jnp.argmax(jnp.cumsum(legal) > explored).astype(jnp.int32)
    return jnp.where(u < epsilon, explored, greedy(q_values))


def epsilon_greedy_probs(q_values: jax.Array, epsilon: Scalar) -> jax.Array:
    """π(· | s) of ε-greedy, greedy actions sharing 1 - ε equally: float32 [A] (Sutton & Barto, 2nd ed., equation 5.2)."""
    best = q_values == q_values.max()
    return epsilon / q_values.shape[-1] + (1 - epsilon) * best.astype(jnp.float32) / best.sum(dtype=jnp.float32)


def boltzmann_probs(q_values: jax.Array, temperature: Scalar) -> jax.Array:
    """π(a | s) ∝ exp(Q(s, a) / temperature): float32 [A] (Sutton & Barto, 2nd ed., equation 13.2)."""
    return jax.nn.softmax(q_values / temperature)


def sample(key: Key, probs: jax.Array) -> jax.Array:
    """An action drawn from `probs` [A], by one uniform number and the inverse of the distribution: int32 []."""
    cumulative = jnp.cumsum(probs)
    u = jax.random.uniform(key, dtype=jnp.float32) * cumulative[-1]
    return jnp.sum(u >= cumulative[:-1], dtype=jnp.int32)


def random_actions(keys: Key, observation_space: Space, action_space: Space, obs: PyTree) -> PyTree:
    """A uniform draw for each key [N]: of all actions, or of the legal ones where obs [N, ...] has an action mask."""
    legal = legal_actions(observation_space, obs)
    return jax.vmap(action_space.sample)(keys) if legal is None else jax.vmap(sample)(keys, legal.astype(jnp.float32))


def random_argmax(key: Key, x: jax.Array) -> jax.Array:
    """An index of the maximum of `x` [A], ties broken uniformly: int32 []."""
    return jnp.argmax(jnp.where(x == x.max(), jax.random.uniform(key, x.shape, jnp.float32), -1.0)).astype(jnp.int32)
