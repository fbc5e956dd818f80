"""ε-greedy: the simple bandit algorithm (Sutton & Barto, 2nd ed., sections 2.2-2.6).

    A_t = argmax_a Q_t(a), ties at random, with probability 1 - ε, else a random action
    Q(a) ← Q(a) + α [r - Q(a)],    α = learning_rate · n(a)^(-learning_rate_decay)

n(a) counts the pulls of a. The default, learning_rate 1 and decay 1, is the sample average; decay 0 is the constant step
of equation 2.5, which follows a non-stationary problem. A high `initial_value` is the optimism of section 2.6: it needs a
constant step below 1, for a sample average forgets it at the first pull.
"""

from __future__ import annotations

from typing import Annotated

import jax

from jaxrl.agents.parts.bandit import Arms, context_free
from jaxrl.agents.parts.common import EpsilonSchedule
from jaxrl.core.settings import Fraction, Positive, Range, hyperparameters
from jaxrl.core.settings import LoopConfig as Config
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Transition
from jaxrl.ops import exploration


@hyperparameters
class HParams(EpsilonSchedule):
    """The ε-greedy bandit's traced settings: step size and exploration."""

    learning_rate: Annotated[float, Positive] = 1.0
    """Step size at an action's first pull (α)."""
    learning_rate_decay: Annotated[float, Fraction] = 1.0
    """Exponent of the pull count by which the step size falls; 0 = constant, 1 = sample average."""
    initial_value: Annotated[float, Range()] = 0.0
    """Value of every action before its first pull; high = optimistic."""
    epsilon_start: Annotated[float, Fraction] = 0.1
    epsilon_end: Annotated[float, Fraction] = 0.1


def make(spec: EnvSpec, config: Config) -> Agent:
    """ε-greedy for discrete actions; observations are ignored."""

    def choose(hp: HParams, arms: Arms, clock: Clock, key: Key) -> tuple[jax.Array, tuple[()]]:
        return exploration.sample(key, exploration.epsilon_greedy_probs(arms.q, hp.epsilon(clock))), ()

    def update(hp: HParams, arms: Arms, step: Transition) -> Arms:
        return arms.updated(step.action, step.reward, hp.learning_rate, hp.learning_rate_decay)

    def init(hp: HParams, num_actions: int) -> Arms:
        return Arms.initial(num_actions, hp.initial_value)

    return context_free(spec, "epsilon_greedy", init, choose, update, score=lambda arms: arms.q)
