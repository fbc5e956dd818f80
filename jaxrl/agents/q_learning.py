"""Q-learning: off-policy temporal-difference control in a table (Watkins 1989; Sutton & Barto, 2nd ed., section 6.5).

    Q(s, a) ← Q(s, a) + α [r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a)]

whatever the behaviour policy, ε-greedy or Boltzmann: what is learnt is the greedy policy's value.
"""

from __future__ import annotations

import jax

from jaxrl.agents._common import one_by_one
from jaxrl.agents._tabular import Config, HParams, State, learning_metrics, move, new_table, table_agent, table_shape
from jaxrl.ops.returns import td_target
from jaxrl.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Transition

__all__ = ["Config", "HParams", "State", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Q-learning for discrete observations and actions."""
    shape = table_shape(spec, "q_learning")

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        return new_table(shape, hp, params)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        def update(state: State, step: Transition) -> tuple[State, jax.Array]:
            target = td_target(step.reward, hp.gamma, step.terminated, state.q[step.next_obs].max())
            return move(hp, state, (step.obs, step.action), target, step.valid)

        state, errors = one_by_one(update, state, rollout.steps)
        return state, learning_metrics(state, errors, rollout.steps.valid.reshape(-1))

    return table_agent(config, init, learn)
