"""Expected SARSA: the expectation over the next action instead of a draw (van Seijen et al. 2009).

Sutton & Barto, 2nd ed., equation 6.9:

    Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) Σ_a' π(a' | s') Q(s', a') - Q(s, a)]

with π the behaviour policy at the present values, and at the ε of the clock at which is learnt. It learns what SARSA
learns, without the variance of a'. At ε = 0 it is Q-learning.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.agents._common import one_by_one
from jaxrl.agents._tabular import (
    Config,
    HParams,
    State,
    behaviour_policy,
    learning_metrics,
    move,
    new_table,
    table_agent,
    table_shape,
)
from jaxrl.ops.returns import td_target
from jaxrl.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Transition

__all__ = ["Config", "HParams", "State", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Expected SARSA for discrete observations and actions."""
    shape = table_shape(spec, "expected_sarsa")

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        return new_table(shape, hp, params)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        policy = behaviour_policy(config, hp, clock)

        def update(state: State, step: Transition) -> tuple[State, jax.Array]:
            following = state.q[step.next_obs]
            expected = jnp.sum(policy(following) * following)
            target = td_target(step.reward, hp.gamma, step.terminated, expected)
            return move(hp, state, (step.obs, step.action), target, step.valid)

        state, errors = one_by_one(update, state, rollout.steps)
        return state, learning_metrics(state, errors, rollout.steps.valid.reshape(-1))

    return table_agent(config, init, learn)
