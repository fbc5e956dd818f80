"""Returns and one-step targets: truncation-correct everywhere.

Suffixes as in the literature: `_t` is what follows the action at time t - 1, so `next_values[t]` is V(next_obs[t]), the
observation before auto-reset. Only `terminated` stops a bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple

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
    return lambda_returns(rewards, gamma, 1.0, terminated, truncated, next_values)


class NStep(NamedTuple):
    """A return of at most n steps, to be continued by a bootstrap.

    ret: Σ γ^k r_k up to and including step `last`; discount: γ^(last + 1), or 0 where the episode terminated there;
    last: the first step that ends an episode, else n - 1. float32 [], float32 [], int32 [].
    """

    ret: jax.Array
    discount: jax.Array
    last: jax.Array


def n_step_return(rewards: jax.Array, gamma: Scalar, terminated: jax.Array, truncated: jax.Array) -> NStep:
    """The first n rewards of a return: G = ret + discount · V(next_obs[last]).

    (Sutton & Barto, 2nd ed., equation 7.1, cut short where the episode ends or is truncated on the way.)
    rewards: float32 [n]; terminated, truncated: bool [n].
    """
    ret, discount, last, going = jnp.float32(0), jnp.float32(1), jnp.int32(-1), jnp.bool_(True)
    for k in range(rewards.shape[0]):  # unrolled: n is small, and all of it fuses into one loop over a batch
        ret = ret + jnp.where(going, discount * rewards[k], 0.0)
        discount = jnp.where(going, jnp.where(terminated[k], 0.0, discount * gamma), discount)
        last = last + going
        going = going & ~(terminated[k] | truncated[k])
    return NStep(ret, discount, last)


def lambda_returns(
    rewards: jax.Array, gamma: Scalar, lam: Scalar, terminated: jax.Array, truncated: jax.Array, next_values: jax.Array
) -> jax.Array:
    """λ-returns of one environment's rollout: float32 [T].

    G_t = r_t + γ · { 0                                       if terminated_t
                      V(next_obs_t)                           if truncated_t, or t is the rollout's last step
                      (1 - λ) V(next_obs_t) + λ G_{t+1}       otherwise }
    (Sutton & Barto, 2nd ed., equation 12.18 with constant λ, γ, on-policy.) λ = 0 is one-step TD, λ = 1 Monte Carlo.
    rewards, next_values: float32 [T]; terminated, truncated: bool [T].
    """
    cut = truncated.at[-1].set(True)

    def backward(following: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, terminated, cut, next_value = xs
        blend = jnp.where(lam < 1, (1 - lam) * next_value, 0.0) + lam * following  # λ = 1 never reads V
        mixed = jnp.where(cut, next_value, blend)
        g = td_target(reward, gamma, terminated, mixed)
        return g, g

    return jax.lax.scan(backward, jnp.zeros_like(rewards[0]), (rewards, terminated, cut, next_values), reverse=True)[1]
