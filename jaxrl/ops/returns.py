"""Returns and one-step targets: truncation-correct everywhere.

Suffixes as in the literature: `_t` is what follows the action at time t - 1, so `next_values[t]` is V(next_obs[t]), the
observation before auto-reset. Only `terminated` stops a bootstrap.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.types import Scalar


def td_target(reward: jax.Array, gamma: Scalar, terminated: jax.Array, next_value: jax.Array) -> jax.Array:
    """r + γ (1 - terminated) V(s'): Sutton & Barto, 2nd ed., equation 6.5 (and 6.8 with V = max Q). All shapes []."""
    return reward + gamma * jnp.where(terminated, 0.0, next_value)


def discounted_returns(
    rewards: jax.Array, gamma: Scalar, terminated: jax.Array, truncated: jax.Array, next_values: jax.Array
) -> jax.Array:
    """Monte-Carlo returns of one environment's rollout: float32 [T].

    G_t = r_t + γ · { 0                if terminated_t
                      V(next_obs_t)    if truncated_t, or t is the rollout's last step
                      G_{t+1}          otherwise }
    (Sutton & Barto, 2nd ed., equation 3.9, bootstrapped where an episode was cut rather than ended.)
    rewards, next_values: float32 [T]; terminated, truncated: bool [T].
    """
    cut = truncated.at[-1].set(True)

    def backward(following: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, terminated, cut, next_value = xs
        g = td_target(reward, gamma, terminated, jnp.where(cut, next_value, following))
        return g, g

    return jax.lax.scan(backward, jnp.zeros_like(rewards[0]), (rewards, terminated, cut, next_values), reverse=True)[1]
