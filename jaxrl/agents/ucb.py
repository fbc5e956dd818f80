"""UCB: optimism in the face of uncertainty (UCB1, Auer et al. 2002; Sutton & Barto, 2nd ed., equation 2.10).

    A = argmax_a [Q(a) + c √(ln t / n(a))]

Q(a) is the mean reward of a's n(a) pulls and t = Σ_a n(a), pulls so far. Actions never pulled come first, at random, and
so are ties broken. With c = √2 and rewards in [0, 1] this is UCB1, whose regret after t pulls is at most
Σ_a 8 ln t / Δ_a + O(1) (theorem 1 there), Δ_a being what a is worse by than the best. The book's testbed takes c = 2.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.bandit import Arms, context_free
from jaxrl.core.settings import LoopConfig as Config
from jaxrl.core.settings import NonNegative, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Scalar
from jaxrl.ops import exploration


@hyperparameters
class HParams:
    """UCB's traced settings."""

    confidence: Annotated[float, NonNegative] = 1.4142
    """Width of the confidence bound (c): √2 is UCB1 for rewards in [0, 1]; wider rewards need more."""


def upper_bounds(arms: Arms, confidence: Scalar) -> jax.Array:
    """Q(a) + c √(ln t / n(a)), infinite where a was never pulled: float32 [A]."""
    n = jnp.maximum(arms.pulls, 1).astype(jnp.float32)
    t = jnp.maximum(arms.pulls.sum(), 1).astype(jnp.float32)
    return jnp.where(arms.pulls == 0, jnp.inf, arms.q + confidence * jnp.sqrt(jnp.log(t) / n))


def make(spec: EnvSpec, config: Config) -> Agent:
    """UCB for discrete actions; observations are ignored."""

    def choose(hp: HParams, arms: Arms, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        return exploration.random_argmax(key, upper_bounds(arms, hp.confidence)), ()

    return context_free(
        spec,
        "ucb",
        init=lambda hp, num_actions: Arms.initial(num_actions),
        choose=choose,
        update=lambda hp, arms, step: arms.updated(step.action, step.reward, learning_rate=1.0, decay=1.0),
        score=lambda arms: arms.q,
    )
