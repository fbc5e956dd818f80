"""Gradient bandit: stochastic gradient ascent on softmax preferences (Sutton & Barto, 2nd ed., section 2.8, equation 2.12).

    π(a) = exp(H(a)) / Σ_b exp(H(b)),    H(a) ← H(a) + α (R_t - R̄_t) (1[a = A_t] - π(a))    for every a

The update's mean is α times the gradient of the expected reward, whatever the baseline R̄_t, as long as it does not depend
on A_t. Here, as in the book, R̄_t is the mean of the rewards before this one, with R̄_1 = R_1: the first pull moves no
preference. π is the one that drew A_t, also where N environments pull at once.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.bandit import context_free
from jaxrl.core.settings import LoopConfig, Positive, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Transition
from jaxrl.ops import exploration


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    """The gradient bandit's static settings."""

    baseline: bool = True
    """Compare rewards with the mean of those before; else with 0."""


@hyperparameters
class HParams:
    """The gradient bandit's traced settings."""

    learning_rate: Annotated[float, Positive] = 0.1
    """Step size of the preferences (α)."""


class State(NamedTuple):
    """preferences: H, float32 [A]. mean_reward: of all pulls, float32 []. pulls: of each action, int32 [A]."""

    preferences: jax.Array
    mean_reward: jax.Array
    pulls: jax.Array


def make(spec: EnvSpec, config: Config) -> Agent:
    """The gradient bandit for discrete actions; observations are ignored."""

    def init(hp: HParams, num_actions: int) -> State:
        return State(jnp.zeros(num_actions, jnp.float32), jnp.float32(0), jnp.zeros(num_actions, jnp.int32))

    def choose(hp: HParams, state: State, clock: Clock, key: Key) -> tuple[jax.Array, jax.Array]:
        probs = exploration.boltzmann_probs(state.preferences, 1.0)
        return exploration.sample(key, probs), probs

    def update(hp: HParams, state: State, step: Transition) -> State:
        pulls = state.pulls.at[step.action].add(1)
        t = pulls.sum()
        before = jnp.where(t == 1, step.reward, state.mean_reward)
        advantage = step.reward - (before if config.baseline else 0.0)
        towards = jax.nn.one_hot(step.action, len(pulls), dtype=jnp.float32) - step.extras
        mean_reward = state.mean_reward + (step.reward - state.mean_reward) / t.astype(jnp.float32)
        return State(state.preferences + hp.learning_rate * advantage * towards, mean_reward, pulls)

    return context_free(
        spec, "gradient_bandit", init, choose, update, score=lambda state: state.preferences, has_values=False
    )
