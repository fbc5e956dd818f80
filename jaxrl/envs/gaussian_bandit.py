"""GaussianBandit: arms with normal rewards, the 10-armed testbed of Sutton & Barto (2nd ed., section 2.3) by default.

    z_k ~ N(0, 1),    reward ~ N(mean_k, scale²),    mean_k as in `_bandit`

Nothing is observed (one observation, 0). The episode is never terminated; the time limit truncates it. With `drift` every
mean takes a normal step after each pull, which makes the problem non-stationary (their exercise 2.5).
Step metrics: regret, cumulative_regret (of the episode, this step included), optimal (1 if the best arm was pulled).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.types import Env, Key
from jaxrl.envs.parts import bandit


class Params(NamedTuple):
    """float32 [] unless said otherwise.

    problem: number of the problem, int32. base: mean level. spread: standard deviation of the arms' means. gap: what the
    best arm is better by on top. scale: standard deviation of a reward. drift: that of a mean's walk per step.
    max_steps_in_episode: the time limit, int32.
    """

    problem: jax.Array
    base: jax.Array
    spread: jax.Array
    gap: jax.Array
    scale: jax.Array
    drift: jax.Array
    max_steps_in_episode: jax.Array


def make(num_arms: int = 10) -> Env:
    """The bandit with arms 0 … num_arms - 1."""
    zero, one = jnp.float32(0), jnp.float32(1)
    params = Params(
        jnp.int32(0), base=zero, spread=one, gap=zero, scale=one, drift=zero, max_steps_in_episode=jnp.int32(10_000)
    )

    def draw_reward(key: Key, mean: jax.Array, params: Params) -> jax.Array:
        return mean + params.scale * jax.random.normal(key, dtype=jnp.float32)

    draw_arms = partial(jax.random.normal, dtype=jnp.float32)
    return bandit.make("GaussianBandit", num_arms, params, draw_arms, draw_reward, lambda means: means)
