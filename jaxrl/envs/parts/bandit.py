"""What the context-free bandits share: arms whose means are drawn per problem and may walk, and regret.

    mean_k = base + spread · z_k + gap · 1[k = argmax z],    z from the problem's number alone

so that every reset with the same parameters is the same problem, and a sweep over problems is a `vmap` over parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.settings import AtLeastTwo, check
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key

# What a problem's key is folded with: no tag of a run's root key, so that problem k shares no random number with seed k.
ARMS = int.from_bytes(b"arms")


class State(NamedTuple):
    """means: each arm's expected reward now, float32 [K]. time: pulls so far, int32 []. regret: their sum, float32 []."""

    means: jax.Array
    time: jax.Array
    regret: jax.Array


def make(
    env_id: str,
    num_arms: int,
    params: Any,
    draw_arms: Callable[[Key, tuple[int, ...]], jax.Array],
    draw_reward: Callable[[Key, jax.Array, Any], jax.Array],
    keep_within: Callable[[jax.Array], jax.Array],
) -> Env:
    """A bandit of `num_arms` arms. Raises ValueError for fewer than two.

    params: defaults, at least problem, base, spread, gap, drift and max_steps_in_episode, as in GaussianBandit.
    draw_arms: (key, shape) -> z, float32. draw_reward: (key, mean float32 [], params) -> float32 []. keep_within: means
    [K] -> the same, within what a mean can be.
    """
    check("num_arms", num_arms, Annotated[int, AtLeastTwo])

    def reset(key: Key, params: Any) -> tuple[State, jax.Array]:
        del key  # the problem decides the arms
        z = draw_arms(jax.random.fold_in(jax.random.key(params.problem), ARMS), (num_arms,))
        best = jnp.arange(num_arms) == jnp.argmax(z)
        means = keep_within(params.base + params.spread * z + params.gap * best.astype(jnp.float32))
        return State(means, jnp.int32(0), jnp.float32(0)), jnp.int32(0)

    def step(key: Key, state: State, action: jax.Array, params: Any) -> tuple[State, EnvStep]:
        reward_key, walk_key = jax.random.split(key)
        mean = state.means[action]
        reward = draw_reward(reward_key, mean, params)
        regret = state.means.max() - mean
        total = state.regret + regret
        metrics = {"regret": regret, "cumulative_regret": total, "optimal": (regret == 0).astype(jnp.float32)}
        means = keep_within(state.means + params.drift * jax.random.normal(walk_key, (num_arms,), jnp.float32))
        state = State(means, state.time + 1, total)
        late = state.time >= params.max_steps_in_episode
        return state, EnvStep(jnp.int32(0), reward, jnp.bool_(False), late, metrics)

    return Env(EnvSpec(env_id, Discrete(1), Discrete(num_arms)), params, reset, step)
