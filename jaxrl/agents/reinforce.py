"""REINFORCE: Monte-Carlo policy gradient, with a learned baseline (Williams 1992; Sutton & Barto, 2nd ed., 13.3–13.4).

Over the steps of all episodes that ended in the last rollout, of T steps of N environments, with G_t the discounted return
from step t to the episode's end, one step descends

    L = -E[(G_t - V(s_t)) log π(a_t | s_t)] + c_v · ½ E[(G_t - V(s_t))²] - c_e E[H(π(· | s_t))].

Episodes are learnt from whole: steps of an episode that the rollout leaves unfinished wait for its end. By then the policy
may have moved since they were taken; longer rollouts make that rare. As is usual, the factor γ^t is dropped.

An episode that is cut has no return of its own. With the baseline it bootstraps from V(next_obs) at the cut (Pardo et al.
2018, section 3); without, the return stops there, as if the cut were a part of the task. Cut is an episode by a time limit,
and where more than `max_episode_length` of its steps wait; and with `bootstrap` each episode at each rollout's end.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import actor_critic, transforms
from jaxrl.agents.parts.actor_critic import Rows
from jaxrl.agents.parts.common import when_started, zero_transitions
from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, Fraction, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout, State, Transition
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.ops.returns import discounted_returns


@dataclasses.dataclass(frozen=True)
class Config(actor_critic.Config):
    """REINFORCE's static settings: N, T, the baseline, and where episodes are cut."""

    num_envs: Annotated[int, Count] = 8
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 64
    """Steps each environment takes between two learning phases (T)."""
    max_episode_length: Annotated[int, Count] = 500
    """Most steps of an episode that wait for its end; a longer one is cut. Memory and time to learn grow with it."""
    baseline: bool = True
    """Subtract a learned state value from the return, and bootstrap from it where an episode is cut."""
    bootstrap: bool = False
    """Cut every episode at the rollout's end, so that no step waits: A2C with λ = 1, not Williams's REINFORCE."""

    def check(self) -> None:
        """Raises ValueError for a bootstrap that has nothing to bootstrap from."""
        super().check()
        if self.bootstrap and not self.baseline:
            raise InputError("bootstrap = True needs baseline = True: there is no other value to bootstrap from")


@hyperparameters
class HParams(actor_critic.HParams):
    """REINFORCE's traced settings: those of every policy-gradient agent."""

    learning_rate_anneal: Annotated[float, Fraction] = 0.0


class Experience(NamedTuple):
    """The last K rollouts, in which those steps lie that wait for their episode's end.

    steps: leaves [K · T, N, ...]; memory: leaves [K, N, ...], before each rollout; waiting: which steps do, bool [K · T, N].
    """

    steps: Transition
    memory: PyTree
    waiting: jax.Array


def no_experience(network: ActorCritic, spec: EnvSpec, config: Config) -> Experience | tuple[()]:
    """The experience at the start, all zeros; () where no step ever waits."""
    if config.bootstrap:
        return ()
    number, n = -(-config.max_episode_length // config.rollout_length), config.num_envs
    dtype = jnp.float32 if config.normalize_observations else None
    steps = zero_transitions(spec, dtype, (number * config.rollout_length, n))
    memory = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), network.initial(n))
    return Experience(steps, memory, jnp.zeros_like(steps.valid))


def with_rollout(experience: Experience | tuple[()], rollout: Rollout) -> tuple[Experience, PyTree]:
    """The experience with a rollout added, whose every step waits, so K + 1 rollouts; and the memory before all of them."""
    new = Experience(rollout.steps, jax.tree.map(lambda x: x[None], rollout.memory), jnp.ones_like(rollout.steps.valid))
    if experience:
        new = jax.tree.map(lambda old, x: jnp.concatenate([old, x]), experience, new)
    return new, trees.member(new.memory, 0)


def complete_steps(steps: Transition, waiting: jax.Array, limit: int) -> tuple[jax.Array, jax.Array]:
    """Which `waiting` steps are learnt from now, and which wait on, at most `limit` of an environment; all bool [W, N]."""
    ended = steps.terminated | steps.truncated
    unfinished = waiting & (jnp.cumsum(ended[::-1], 0, dtype=jnp.int32)[::-1] == 0)
    on = unfinished & (unfinished.sum(0, dtype=jnp.int32) <= limit)[None]
    return steps.valid & waiting & ~on, on


def make(spec: EnvSpec, config: Config) -> Agent:
    """REINFORCE for any action space and any array observation."""
    network = actor_critic.network_for(spec, config, "reinforce")
    limit = 0 if config.bootstrap else config.max_episode_length

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        return State(actor_critic.init_state(network, spec, config, key, hp, params), no_experience(network, spec, config))

    def returns(hp: HParams, params: PyTree, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
        """G and V(obs), or 0 without the baseline, float32 [T, N]. G of an unfinished episode is as if cut at the end."""
        s = rollout.steps
        values = next_value = jnp.zeros_like(s.reward)
        if config.baseline:
            values, next_value = actor_critic.values_and_next_values(network, params, rollout)
        g = jax.vmap(discounted_returns, (1, None, 1, 1, 1), 1)(s.reward, hp.gamma, s.terminated, s.truncated, next_value)
        return g, values

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        seen, memory = with_rollout(state.experience, rollout)
        s = seen.steps
        usable, waiting = complete_steps(s, seen.waiting, limit)

        def descend(learner: actor_critic.State) -> tuple[actor_critic.State, Metrics]:
            g, values = returns(hp, learner.params, Rollout(s, memory))
            rows = Rows(s.obs, s.first, s.action, g - values, g if config.baseline else None, usable)
            return actor_critic.policy_gradient(network, config, hp, clock, learner, memory, rows, key)

        learner, metrics = when_started(usable.any(), descend, state.learner)
        if config.bootstrap:
            return State(learner, ()), metrics
        steps, waiting = jax.tree.map(lambda x: x[config.rollout_length :], (s, waiting))
        return State(learner, Experience(steps, jax.tree.map(lambda x: x[1:], seen.memory), waiting)), metrics

    agent = actor_critic.agent_of(network, init, learn, params_of=lambda state: state.learner.params)
    return transforms.normalized(agent, spec, config)
