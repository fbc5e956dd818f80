"""n-step SARSA: on-policy control from n rewards and the value after them (Sutton & Barto, 2nd ed., section 7.2).

    Q(s_t, a_t) ← Q(s_t, a_t) + α [G - Q(s_t, a_t)],   G = r_t + γ r_{t+1} + … + γ^(n-1) r_{t+n-1} + γ^n Q(s_{t+n}, a_{t+n})

in the indices of a rollout, where r_t follows a_t. What comes after a_t is known n steps later: the state carries the last
n rows of each environment from one call of `learn` to the next, and the row of time t updates the pair of time t - n, so
that a_{t+n} is the action that was executed. Where the episode terminates among the n steps, G stops there. Where it is
truncated there, no action was executed in s', the observation it was cut at: G goes on with Σ_a π(a | s') Q(s', a).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import tabular
from jaxrl.agents.parts.common import zero_transitions
from jaxrl.agents.parts.tabular import HParams
from jaxrl.core.settings import Count
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, State, Transition
from jaxrl.ops.returns import NStep, n_step_return

Table = tabular.State


@dataclasses.dataclass(frozen=True)
class Config(tabular.Config):
    """n-step SARSA's static settings."""

    n_step: Annotated[int, Count] = 4
    """Rewards in a return before it goes on with a value (n)."""


class Lookahead(NamedTuple):
    """What came in the n steps from a transition on, shapes []: its n-step return, and where that goes on.

    cut: whether the episode was truncated within the n steps. next_obs: the observation at the return's last step.
    obs, action: the pair executed after n steps, another episode's where this one ended before.
    """

    n_step: NStep
    cut: jax.Array
    next_obs: jax.Array
    obs: jax.Array
    action: jax.Array


def make(spec: EnvSpec, config: Config) -> Agent:
    """n-step SARSA for discrete observations and actions."""
    return build(spec, config, config.n_step, "n_step_sarsa")


def build(spec: EnvSpec, config: tabular.Config, n: int, name: str) -> Agent:
    """SARSA with returns of `n` steps, under the agent's name `name`.

    Its experience is the last n transitions [n, N], not `valid` before there were any.
    """
    shape = tabular.table_shape(spec, name)

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        experience = zero_transitions(tabular.numbered_spec(spec), shape=(n, config.num_envs))
        return State(tabular.new_table(shape, hp, params), experience)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        policy = tabular.behaviour_policy(config, hp, clock)

        def update(table: Table, step: Transition) -> tuple[Table, jax.Array]:
            (ret, discount, _), cut, next_obs, obs, action = step.extras
            expected = jnp.sum(policy(table.q[next_obs]) * table.q[next_obs])
            target = ret + discount * jnp.where(cut, expected, table.q[obs, action])
            return tabular.td_update(hp, table, (step.obs, step.action), target, step.valid)

        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), state.experience, rollout.steps._replace(extras=()))
        due = jax.tree.map(lambda x: x[:-n], rows)  # as many as arrived [T, N]: each has its n rows by now
        due = due._replace(extras=look_ahead(rows, n, hp.gamma))
        table, metrics = tabular.learn_one_by_one(update, state.learner, due)
        return State(table, jax.tree.map(lambda x: x[-n:], rows)), metrics

    return tabular.table_agent(spec, config, init, learn, lambda state: state.learner.q)


def look_ahead(rows: Transition, n: int, gamma: Scalar) -> Lookahead:
    """What came in the n steps from each of the first T of the rows [T + n, N] on: leaves [T, N]."""
    # A row that teaches nothing may follow only an end; should one come otherwise, returns stop before it.
    truncated = rows.truncated[:-1] | ~rows.valid[1:]
    starts = jnp.arange(rows.reward.shape[0] - n, dtype=jnp.int32)

    def one(start: jax.Array, rows: Transition, truncated: jax.Array) -> Lookahead:
        window = start + jnp.arange(n, dtype=jnp.int32)
        n_step = n_step_return(rows.reward[window], gamma, rows.terminated[window], truncated[window])
        at = start + n_step.last
        return Lookahead(n_step, truncated[at], rows.next_obs[at], rows.obs[start + n], rows.action[start + n])

    of_one_environment = jax.vmap(one, (0, None, None))
    return jax.vmap(of_one_environment, (None, 1, 1), out_axes=1)(starts, rows, truncated)
