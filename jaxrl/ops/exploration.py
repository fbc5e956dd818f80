"""Behaviour policies over action values, and their schedules."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.types import Key, Scalar


def linear_schedule(progress: jax.Array, start: Scalar, end: Scalar, fraction: Scalar) -> jax.Array:
    """From `start` to `end` over the first `fraction` of training, then `end`: float32 [].

    progress: float32 [] in [0, 1]. A fraction of 0 is `end` from the first step.
    """
    done = jnp.where(fraction > 0, progress / jnp.where(fraction > 0, fraction, 1.0), 1.0)
    return start + (end - start) * jnp.minimum(done, 1.0)


def epsilon_greedy(key: Key, q_values: jax.Array, epsilon: Scalar) -> jax.Array:
    """A uniform action with probability ε, else the first greedy one (Sutton & Barto, 2nd ed., section 2.2).

    q_values: float32 [A]. Returns int32 []. One draw serves both choices: u < ε decides to explore, and u / ε, then
    uniform on [0, 1), which action.
    """
    num_actions = q_values.shape[-1]
    u = jax.random.uniform(key)
    explored = (u / jnp.maximum(epsilon, 1e-30) * num_actions).astype(jnp.int32)
    greedy = jnp.argmax(q_values).astype(jnp.int32)
    return jnp.where(u < epsilon, jnp.minimum(explored, num_actions - 1), greedy)


def random_argmax(key: Key, x: jax.Array) -> jax.Array:
    """An index of the maximum of `x` [A], ties broken uniformly: int32 []."""
    return jnp.argmax(jnp.where(x == x.max(), jax.random.uniform(key, x.shape), -1.0)).astype(jnp.int32)
