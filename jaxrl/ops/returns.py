"""Returns and one-step targets of one environment; `vmap` over several.

Arguments everywhere: rewards, values and next_values float32 [T], terminated and truncated bool [T], of steps in a row.
`next_values[t]` is V(next_obs[t]), of the observation before auto-reset. Only `terminated` stops a bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.types import Scalar


def td_target(reward: jax.Array, gamma: Scalar, terminated: jax.Array, next_value: jax.Array) -> jax.Array:
    """r + γ (1 - terminated) V(s'): Sutton & Barto, 2nd ed., equation 6.5 (and 6.8 with V = max Q). All shapes []."""
    return reward + gamma * jnp.where(terminated, 0.0, next_value)


def discounted_returns(
    rewards: jax.Array, gamma: Scalar, terminated: jax.Array, truncated: jax.Array, next_values: jax.Array
) -> jax.Array:
    """Monte-Carlo returns of a rollout: float32 [T].

    G_t = r_t + γ · { 0                if terminated_t
                      V(next_obs_t)    if truncated_t, or t is the rollout's last step
                      G_{t+1}          otherwise }
    (Sutton & Barto, 2nd ed., equation 3.9, bootstrapped where an episode was cut rather than ended.)
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
        last = last + going.astype(jnp.int32)
        going = going & ~(terminated[k] | truncated[k])
    return NStep(ret, discount, last)


def n_step_returns(
    rewards: jax.Array, gamma: Scalar, n: int, terminated: jax.Array, truncated: jax.Array, next_values: jax.Array
) -> jax.Array:
    """n-step returns of every step of a sequence: float32 [T]. G_t = G_t^(n), with

    G_t^(k) = r_t + γ · { 0                if terminated_t
                          V(next_obs_t)    if k = 1, or truncated_t, or t is the sequence's last step
                          G_{t+1}^(k-1)    otherwise }
    (Sutton & Barto, 2nd ed., equation 7.1, cut short where the episode ends, is truncated, or the sequence stops.)
    """
    cut = truncated.at[-1].set(True)
    bootstrap = next_values
    for _ in range(n - 1):
        returns = td_target(rewards, gamma, terminated, bootstrap)
        bootstrap = jnp.where(cut, next_values, jnp.roll(returns, -1))
    return td_target(rewards, gamma, terminated, bootstrap)


def lambda_returns(
    rewards: jax.Array, gamma: Scalar, lam: Scalar, terminated: jax.Array, truncated: jax.Array, next_values: jax.Array
) -> jax.Array:
    """λ-returns of a rollout: float32 [T].

    G_t = r_t + γ · { 0                                       if terminated_t
                      V(next_obs_t)                           if truncated_t, or t is the rollout's last step
                      (1 - λ) V(next_obs_t) + λ G_{t+1}       otherwise }
    (Sutton & Barto, 2nd ed., equation 12.18 with constant λ, γ, on-policy.) λ = 0 is one-step TD, λ = 1 Monte Carlo.
    """
    cut = truncated.at[-1].set(True)

    def backward(next_return: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, terminated, cut, next_value = xs
        blend = jnp.where(lam < 1, (1 - lam) * next_value, 0.0) + lam * next_return  # λ = 1 never reads V
        mixed = jnp.where(cut, next_value, blend)
        g = td_target(reward, gamma, terminated, mixed)
        return g, g

    return jax.lax.scan(backward, jnp.zeros_like(rewards[0]), (rewards, terminated, cut, next_values), reverse=True)[1]


def gae(
    rewards: jax.Array,
    gamma: Scalar,
    lam: Scalar,
    terminated: jax.Array,
    truncated: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
) -> jax.Array:
    """Generalised advantage estimates of a rollout: float32 [T] (Schulman et al. 2016, equation 16).

    A_t = δ_t + γλ · { 0 if the episode ended at t (terminated or truncated), or t is the rollout's last step; else A_{t+1} }
    δ_t = r_t + γ (1 - terminated_t) V(next_obs_t) - V(obs_t)
    A_t + V(obs_t) is the λ-return. λ = 0 is the one-step error, λ = 1 the Monte-Carlo return less V.
    """
    deltas = td_target(rewards, gamma, terminated, next_values) - values
    return _discounted_sums(deltas, jnp.where(terminated | truncated, 0.0, gamma * lam))


class VTrace(NamedTuple):
    """V-trace's results, float32 [T] each.

    targets: v_t, what V(obs_t) is moved towards. advantages: ρ_t (r_t + γ v_{t+1} - V(obs_t)), for the policy gradient.
    """

    targets: jax.Array
    advantages: jax.Array


def vtrace(
    log_rhos: jax.Array,
    rewards: jax.Array,
    gamma: Scalar,
    lam: Scalar,
    terminated: jax.Array,
    truncated: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    clip_rho: Scalar = 1.0,
    clip_c: Scalar = 1.0,
) -> VTrace:
    """V-trace: off-policy corrected values of a rollout (Espeholt et al. 2018, equation 1 and section 4.2).

    v_t = V(obs_t) + δ_t + γ c_t · { 0 if the episode ended at t, or t is the last step; else v_{t+1} - V(obs_{t+1}) }
    δ_t = ρ_t (r_t + γ (1 - terminated_t) V(next_obs_t) - V(obs_t)),   ρ_t = min(clip_rho, π/μ),   c_t = λ min(clip_c, π/μ)
    On-policy (log_rhos = 0, clips ≥ 1) v is the λ-return. log_rhos: log π(a|s) - log μ(a|s), float32 [T]. Gradients
    flow through: wrap what is used as a target in `stop_gradient`.
    """
    rho, c = jnp.minimum(clip_rho, jnp.exp(log_rhos)), lam * jnp.minimum(clip_c, jnp.exp(log_rhos))
    ended = terminated | truncated
    deltas = rho * (td_target(rewards, gamma, terminated, next_values) - values)
    targets = values + _discounted_sums(deltas, jnp.where(ended, 0.0, gamma * c))
    goes_on = ~ended.at[-1].set(True)
    bootstrap = jnp.where(goes_on, jnp.roll(targets, -1), next_values)
    return VTrace(targets, rho * (td_target(rewards, gamma, terminated, bootstrap) - values))


def _discounted_sums(x: jax.Array, decay: jax.Array) -> jax.Array:
    """y_t = x_t + decay_t y_{t+1}, y_T = 0: float32 [T]."""

    def backward(next_sum: jax.Array, xs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, decay = xs
        y = x + decay * next_sum
        return y, y

    return jax.lax.scan(backward, jnp.zeros_like(x[0]), (x, decay), reverse=True)[1]
