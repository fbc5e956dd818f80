"""Exact action values of a known Markov decision process.

Everywhere: probability float32 [S, A, S] is P(s' | s, a), and mass missing from a row ends the episode, worth 0; reward
float32 [S, A] is its expectation. Unbatched; `vmap` over many processes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.core.types import Scalar

MAX_SWEEPS = 100_000  # in float32 the change between sweeps may stop short of a small tolerance, and never reach it


def value_iteration(probability: jax.Array, reward: jax.Array, gamma: Scalar, tolerance: Scalar = 1e-6) -> jax.Array:
    """Q* of the process: float32 [S, A] (Sutton & Barto, 2nd ed., equation 4.10, for action values).

    Sweeps Q(s, a) ← r(s, a) + γ Σ_s' P(s' | s, a) max_a' Q(s', a') until none changes an entry by more than `tolerance`;
    Q is then within tolerance · γ / (1 - γ) of Q*, but for rounding.
    """
    return _fixed_point(lambda q: q.max(-1), probability, reward, gamma, tolerance)


def policy_evaluation(
    probability: jax.Array, reward: jax.Array, policy: jax.Array, gamma: Scalar, tolerance: Scalar = 1e-6
) -> jax.Array:
    """Q^π of the process: float32 [S, A] (Sutton & Barto, 2nd ed., equation 4.5, for action values).

    policy: π(a | s), float32 [S, A]. Sweeps Q(s, a) ← r(s, a) + γ Σ_s' P(s' | s, a) Σ_a' π(a' | s') Q(s', a'), as above.
    """
    return _fixed_point(lambda q: (policy * q).sum(-1), probability, reward, gamma, tolerance)


def _fixed_point(
    state_values: Callable[[jax.Array], jax.Array],
    probability: jax.Array,
    reward: jax.Array,
    gamma: Scalar,
    tolerance: Scalar,
) -> jax.Array:
    """Q = r + γ P V(Q), by repetition from Q = 0; state_values: Q [S, A] -> V [S]."""

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, change, sweeps = carry
        return (change > tolerance) & (sweeps < MAX_SWEEPS)

    def sweep(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        q, _, sweeps = carry
        next_value = jnp.einsum("sat,t->sa", probability, state_values(q), precision="highest")
        new = reward + gamma * next_value
        return new, jnp.abs(new - q).max(), sweeps + 1

    start = (jnp.zeros_like(reward), jnp.full_like(reward, jnp.inf, shape=()), jnp.int32(0))
    return jax.lax.while_loop(unfinished, sweep, start)[0]
