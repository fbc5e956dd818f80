"""What the tabular agents share: settings, the table, the behaviour policy. What tells them apart is their update.

The behaviour policy is a distribution over actions, so that what is drawn from in `act` and what expectations are taken
under in `learn` is one function. The step size is α = learning_rate · n(s, a)^(-decay), n counting an entry's updates:
decay 0 is constant, 1 the sample average; between ½ and 1 it converges with probability 1, and near 0.7 much faster than
at 1 (Even-Dar & Mansour 2003).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.common import EpsilonSchedule, discrete_actions, discrete_observations, memoryless_agent, one_by_one
from jaxrl.core.means import Mean
from jaxrl.core.settings import Fraction, LoopConfig, Positive, Range, hyperparameters
from jaxrl.core.spaces import Discrete, number
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Transition
from jaxrl.ops import exploration
from jaxrl.ops.returns import td_target

Policy = Callable[[jax.Array], jax.Array]  # action values float32 [A] -> probabilities float32 [A]
S = TypeVar("S", bound="Any")  # State, or a NamedTuple with more fields


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    """The behaviour policy, beside the shape of an iteration."""

    exploration: Literal["epsilon_greedy", "boltzmann"] = "epsilon_greedy"
    """Policy in training: ε-greedy, or Boltzmann (softmax of the values by temperature)."""


@hyperparameters
class HParams(EpsilonSchedule):
    """Step size, discount and exploration."""

    learning_rate: Annotated[float, Positive] = 0.1
    """Step size at an entry's first update (α)."""
    learning_rate_decay: Annotated[float, Fraction] = 0.0
    """Exponent of the update count by which the step size falls; 0 = constant, 1 = sample average."""
    gamma: Annotated[float, Fraction] = 0.99
    """Discount per step."""
    epsilon_start: Annotated[float, Fraction] = 1.0
    """Probability of a random action at the first step (ε-greedy)."""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """Probability of a random action from the end of the schedule on (ε-greedy)."""
    epsilon_fraction: Annotated[float, Fraction] = 0.5
    """Share of training over which ε falls linearly."""
    temperature: Annotated[float, Positive] = 1.0
    """Value difference that makes an action e times as likely (Boltzmann)."""
    initial_value: Annotated[float, Range()] = 0.0
    """Value of every entry of the table before training; high = optimistic."""


class State(NamedTuple):
    """q: float32 [S, A]. visits: int32 [S, A], updates of each entry. Both [2, S, A] where there are two tables."""

    q: jax.Array
    visits: jax.Array


def table_shape(spec: EnvSpec, agent: str) -> tuple[int, int]:
    """(S, A). Raises ValueError where observations or actions are not discrete."""
    return discrete_observations(spec, agent), discrete_actions(spec, agent)


def numbered_spec(spec: EnvSpec) -> EnvSpec:
    """The spec in which an observation of several integers is one: its number among all of them."""
    return dataclasses.replace(spec, observation_space=Discrete(table_shape(spec, "")[0]))


def new_table(shape: tuple[int, ...], hp: HParams, params: PyTree = None) -> State:
    """The table before training. params: values float32 [*shape] to start from, instead of `initial_value`."""
    q = jnp.full(shape, hp.initial_value, jnp.float32) if params is None else params
    return State(q, jnp.zeros(shape, jnp.int32))


def behaviour_policy(config: Config, hp: HParams, clock: Clock) -> Policy:
    """π(· | s) as a function of Q(s, ·), at the clock's ε."""
    if config.exploration == "boltzmann":
        return lambda q_values: exploration.boltzmann_probs(q_values, hp.temperature)
    return lambda q_values: exploration.epsilon_greedy_probs(q_values, hp.epsilon(clock))


def td_update(hp: HParams, state: S, at: tuple[jax.Array, ...], target: jax.Array, valid: jax.Array) -> tuple[S, jax.Array]:
    """Q(at) ← Q(at) + α [target - Q(at)] where `valid`: the state, and the error float32 [].

    at: the entry's index, each int32 []: (s, a), or (table, s, a).
    """
    error = target - state.q[at]
    visits = state.visits.at[at].add(valid)
    alpha = hp.learning_rate * jnp.maximum(visits[at], 1).astype(jnp.float32) ** -hp.learning_rate_decay
    return state._replace(q=state.q.at[at].add(jnp.where(valid, alpha * error, 0.0)), visits=visits), error


def learn_one_by_one(
    update: Callable[[State, Transition], tuple[State, jax.Array]], state: State, steps: Transition
) -> tuple[State, Metrics]:
    """`update(state, step) -> (state, error)` for each transition of steps [T, N] in turn; mean |error| and mean value."""
    state, errors = one_by_one(update, state, steps)
    return state, {"td_error": Mean.of(jnp.abs(errors), steps.valid.reshape(-1)), "q_value": Mean.of(state.q)}


def table_agent(
    spec: EnvSpec,
    config: Config,
    init: Callable[..., Any],
    learn: Callable[..., tuple[Any, Metrics]],
    table: Callable[[Any], jax.Array] = lambda state: state.q,
) -> Agent:
    """The agent that acts by the table [S, A] which `table` reads from the state; init and learn are as in `Agent`.

    An observation of several integers is its number among all of them, for `learn` too.
    """
    place = partial(number, spec.observation_space)

    def values(hp: HParams, state: Any, obs: PyTree) -> jax.Array:
        return table(state)[place(obs)]

    def learn_numbers(hp: HParams, state: Any, rollout: Rollout, clock: Clock, key: Key) -> tuple[Any, Metrics]:
        steps = rollout.steps._replace(obs=place(rollout.steps.obs), next_obs=place(rollout.steps.next_obs))
        return learn(hp, state, rollout._replace(steps=steps), clock, key)

    def act(hp: HParams, state: Any, obs: PyTree, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        probs = jax.vmap(behaviour_policy(config, hp, clock))(values(hp, state, obs))
        return jax.vmap(exploration.sample)(jax.random.split(key, probs.shape[0]), probs), ()

    def greedy(hp: HParams, state: Any, obs: PyTree) -> jax.Array:
        return exploration.greedy(values(hp, state, obs))

    return memoryless_agent(init, act, greedy, learn_numbers, values)


def td_agent(spec: EnvSpec, config: Config, name: str, next_value: Callable[[Policy, jax.Array], jax.Array]) -> Agent:
    """The agent `name` of one table and one-step errors: Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) V(s') - Q(s, a)].

    next_value: (the behaviour policy, Q(s', ·) float32 [A]) -> V(s') float32 [].
    """
    shape = table_shape(spec, name)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        return new_table(shape, hp, params)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        policy = behaviour_policy(config, hp, clock)

        def update(state: State, step: Transition) -> tuple[State, jax.Array]:
            target = td_target(step.reward, hp.gamma, step.terminated, next_value(policy, state.q[step.next_obs]))
            return td_update(hp, state, (step.obs, step.action), target, step.valid)

        return learn_one_by_one(update, state, rollout.steps)

    return table_agent(spec, config, init, learn)
