"""What the context-free bandit agents share: they learn which of A actions pays, whatever is observed.

Each gives four functions of one pull, which `context_free` makes an `Agent`, batched over N environments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts.common import discrete_actions, memoryless_agent, one_by_one
from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.means import Mean
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, Scalar, Transition


class Arms(NamedTuple):
    """What is known of A actions. q: estimated value of each, float32 [A]. pulls: how often each was taken, int32 [A]."""

    q: jax.Array
    pulls: jax.Array

    @staticmethod
    def initial(num_actions: int, initial_value: Scalar = 0.0) -> Arms:
        """Before any pull."""
        return Arms(jnp.full(num_actions, initial_value, jnp.float32), jnp.zeros(num_actions, jnp.int32))

    def updated(self, action: jax.Array, reward: jax.Array, learning_rate: Scalar, decay: Scalar) -> Arms:
        """After one pull: Q(a) ← Q(a) + α [r - Q(a)], α = learning_rate · n(a)^(-decay), n(a) this pull included.

        learning_rate 1 with decay 1 is the sample average (Sutton & Barto, 2nd ed., equation 2.3).
        """
        pulls = self.pulls.at[action].add(1)
        alpha = learning_rate * pulls[action].astype(jnp.float32) ** -decay
        return Arms(self.q.at[action].add(alpha * (reward - self.q[action])), pulls)


def num_arms(spec: EnvSpec, agent: str) -> int:
    """The number of actions. Raises ValueError where they are not discrete, or observations differ, so that they matter."""
    actions, space = discrete_actions(spec, agent), spec.observation_space
    if not (space.n == 1 if isinstance(space, Discrete) else isinstance(space, Box) and space.low == space.high):
        raise InputError(
            f"agent {agent!r} ignores observations, and {spec.id} has {space}: use neural_bandit or dqn there, or {agent} "
            "in GaussianBandit, BernoulliBandit or another environment of one observation, Discrete(1)"
        )
    return actions


def context_free(
    spec: EnvSpec,
    name: str,
    init: Callable[[Any, int], PyTree],
    choose: Callable[[Any, PyTree, Clock, Key], tuple[jax.Array, PyTree]],
    update: Callable[[Any, PyTree, Transition], PyTree],
    score: Callable[[PyTree], jax.Array],
    *,
    has_values: bool = True,
) -> Agent:
    """The agent `name` that ignores what it observes. Raises ValueError as `num_arms` does.

    init: (hparams, A) -> state. choose: (hparams, state, clock, key) -> (action int32 [], extras of that pull).
    update: (hparams, state, one valid transition) -> state; pulls are learnt from one after another.
    score: state -> float32 [A]; the greedy action is the first of the highest. has_values: scores are action values.
    """
    num_actions = num_arms(spec, name)

    def init_or_params(key: Key, hp: Any, params: PyTree = None) -> PyTree:
        return init(hp, num_actions) if params is None else params

    def act(hp: Any, state: PyTree, obs: PyTree, clock: Clock, key: Key) -> tuple[jax.Array, PyTree]:
        keys = jax.random.split(key, jax.tree.leaves(obs)[0].shape[0])
        return jax.vmap(choose, (None, None, None, 0))(hp, state, clock, keys)

    def greedy(hp: Any, state: PyTree, obs: PyTree) -> jax.Array:
        return jnp.full(jax.tree.leaves(obs)[0].shape[:1], jnp.argmax(score(state)), jnp.int32)

    def learn(hp: Any, state: PyTree, rollout: Rollout, clock: Clock, key: Key) -> tuple[PyTree, Metrics]:
        def one(state: PyTree, step: Transition) -> tuple[PyTree, None]:
            return trees.where(step.valid, update(hp, state, step), state), None

        steps = rollout.steps
        return one_by_one(one, state, steps)[0], {"reward": Mean.of(steps.reward, steps.valid)}

    def values(hp: Any, state: PyTree, obs: PyTree) -> jax.Array:
        q = score(state)
        return jnp.broadcast_to(q, (jax.tree.leaves(obs)[0].shape[0], *q.shape))

    return memoryless_agent(init_or_params, act, greedy, learn, values if has_values else None)
