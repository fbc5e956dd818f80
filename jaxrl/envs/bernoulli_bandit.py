"""BernoulliBandit: arms that pay 1 with a probability of their own, else 0 (Lai & Robbins 1985; Auer et al. 2002).

    z_k ~ U(-½, ½),    P(reward = 1) = mean_k,    mean_k as in `_bandit`, kept within [0, 1]

Nothing is observed (one observation, 0). The episode is never terminated; the time limit truncates it.
`spread` = 0 with a `gap` is the textbook case for regret: all arms alike but one.
Step metrics: regret, cumulative_regret (of the episode, this step included), optimal (1 if the best arm was pulled).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.types import Env, Key
from jaxrl.envs.parts import bandit


class Params(NamedTuple):
    """float32 [] unless said otherwise.

    problem: number of the problem, int32. base, spread: the arms' means are uniform on base ± spread / 2. gap: what the
    best arm is better by on top. drift: standard deviation of a mean's walk per step. max_steps_in_episode: the time
    limit, int32.
    """

    problem: jax.Array
    base: jax.Array
    spread: jax.Array
    gap: jax.Array
    drift: jax.Array
    max_steps_in_episode: jax.Array


def make(num_arms: int = 10) -> Env:
    """The bandit with arms 0 … num_arms - 1."""
    zero, half, one = jnp.float32(0), jnp.float32(0.5), jnp.float32(1)
    params = Params(jnp.int32(0), base=half, spread=one, gap=zero, drift=zero, max_steps_in_episode=jnp.int32(10_000))

    def draw_arms(key: Key, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, jnp.float32, minval=-0.5, maxval=0.5)

    def draw_reward(key: Key, mean: jax.Array, params: Params) -> jax.Array:
        return jax.random.bernoulli(key, mean).astype(jnp.float32)

    return bandit.make("BernoulliBandit", num_arms, params, draw_arms, draw_reward, lambda means: jnp.clip(means, 0.0, 1.0))
