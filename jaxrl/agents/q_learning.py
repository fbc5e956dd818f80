"""Q-learning: off-policy temporal-difference control in a table (Watkins 1989; Sutton & Barto, 2nd ed., section 6.5).

    Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a)]

with behaviour ε-greedy, ties broken at random. The step size is α = learning_rate · n(s, a)^(-decay), n counting visits:
decay 0 is constant, 1 the sample average; between ½ and 1 it converges with probability 1, and near 0.7 much faster than
at 1 (Even-Dar & Mansour 2003).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import trees
from jaxrl.agents._common import discrete_actions, discrete_observations, no_memory
from jaxrl.ops import exploration
from jaxrl.ops.means import Mean
from jaxrl.ops.returns import td_target
from jaxrl.settings import Fraction, LoopConfig, Positive, hyperparameters
from jaxrl.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Transition


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    pass


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 0.1
    """Step size at a pair's first visit (α)."""
    learning_rate_decay: Annotated[float, Fraction] = 0.0
    """Exponent of the visit count by which the step size falls; 0 = constant, 1 = sample average."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    epsilon_start: Annotated[float, Fraction] = 1.0
    """Probability of a random action at the first step."""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """Probability of a random action from the end of the schedule on."""
    epsilon_fraction: Annotated[float, Fraction] = 0.5
    """Share of training over which ε falls linearly."""
    initial_value: float = 0.0
    """Value of every entry of the table before training; high = optimistic."""


class State(NamedTuple):
    """q: float32 [S, A]. visits: int32 [S, A]."""

    q: jax.Array
    visits: jax.Array


def make(spec: EnvSpec, config: Config) -> Agent:
    """Q-learning for discrete observations and actions."""
    shape = (discrete_observations(spec, "q_learning"), discrete_actions(spec, "q_learning"))

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        q = jnp.full(shape, hp.initial_value, jnp.float32) if params is None else params
        return State(q, jnp.zeros(shape, jnp.int32))

    def act(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, clock: Clock, key: Key
    ) -> tuple[jax.Array, PyTree, PyTree]:
        epsilon = exploration.linear_schedule(clock.progress, hp.epsilon_start, hp.epsilon_end, hp.epsilon_fraction)

        def choose(key: Key, q: jax.Array) -> jax.Array:
            explore_key, tie_key = jax.random.split(key)
            favourite = jax.nn.one_hot(exploration.random_argmax(tie_key, q), shape[1])
            return exploration.epsilon_greedy(explore_key, favourite, epsilon)

        return jax.vmap(choose)(jax.random.split(key, obs.shape[0]), state.q[obs]), memory, ()

    def greedy(
        hp: HParams, state: State, memory: PyTree, obs: jax.Array, first: jax.Array, key: Key
    ) -> tuple[jax.Array, PyTree]:
        return jnp.argmax(state.q[obs], -1).astype(jnp.int32), memory

    def update(hp: HParams, state: State, step: Transition) -> tuple[State, jax.Array]:
        at = (step.obs, step.action)
        target = td_target(step.reward, hp.gamma, step.terminated, state.q[step.next_obs].max())
        error = target - state.q[at]
        visits = state.visits.at[at].add(step.valid)
        alpha = hp.learning_rate * jnp.maximum(visits[at], 1).astype(jnp.float32) ** -hp.learning_rate_decay
        return State(state.q.at[at].add(jnp.where(step.valid, alpha * error, 0.0)), visits), error

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        # One transition after another: added up at once, N environments at one pair would step N times too far.
        steps = trees.flatten_time(rollout.steps)
        state, errors = jax.lax.scan(lambda s, step: update(hp, s, step), state, steps)
        return state, {"td_error": Mean.of(jnp.abs(errors), steps.valid), "q_value": Mean.of(state.q)}

    return Agent(init, no_memory, act, greedy, learn)
