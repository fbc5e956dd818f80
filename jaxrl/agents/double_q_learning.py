"""Double Q-learning: two tables, each valuing the other's favourite action (van Hasselt 2010, algorithm 1).

See also Sutton & Barto, 2nd ed., section 6.7.

A coin picks the table that learns, here Q_1; then, with a* = argmax_a' Q_1(s', a'),

    Q_1(s, a) ← Q_1(s, a) + α [r + γ (1 - terminated) Q_2(s', a*) - Q_1(s, a)]

The maximum over noisy values is too high on average, and Q-learning learns from it; the other table's noise is
independent of the choice. Behaviour and evaluation go by the mean of the two. n(s, a) counts each table's own updates.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import tabular
from jaxrl.agents.parts.tabular import Config, HParams, State
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Transition
from jaxrl.ops.returns import td_target

__all__ = ["Config", "HParams", "State", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Double Q-learning for discrete observations and actions; the state's arrays are [2, S, A]."""
    shape = (2, *tabular.table_shape(spec, "double_q_learning"))

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        return tabular.new_table(shape, hp, params)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        def update(state: State, step: Transition) -> tuple[State, jax.Array]:
            learner, other = step.extras, 1 - step.extras
            best = jnp.argmax(state.q[learner, step.next_obs])
            target = td_target(step.reward, hp.gamma, step.terminated, state.q[other, step.next_obs, best])
            return tabular.td_update(hp, state, (learner, step.obs, step.action), target, step.valid)

        coins = jax.random.bernoulli(key, shape=rollout.steps.reward.shape).astype(jnp.int32)
        return tabular.learn_one_by_one(update, state, rollout.steps._replace(extras=coins))

    return tabular.table_agent(spec, config, init, learn, lambda state: state.q.mean(0))
