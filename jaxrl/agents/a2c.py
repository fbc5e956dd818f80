"""A2C: synchronous advantage actor-critic (Mnih et al. 2016, algorithm S3 without the asynchrony).

After T steps of N environments, with A_t the generalised advantage estimate, one step descends

    L = -E[A_t log π(a_t | s_t)] + c_v · ½ E[(A_t + V_old(s_t) - V(s_t))²] - c_e E[H(π(· | s_t))].

λ = 1 is the paper's n-step return up to the rollout's end.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jaxrl.agents.parts import actor_critic, transforms
from jaxrl.agents.parts.actor_critic import Rows, State
from jaxrl.core.settings import Count, Fraction, hyperparameters
from jaxrl.core.types import Agent, Clock, EnvSpec, Key, Metrics, PyTree, Rollout


@dataclasses.dataclass(frozen=True)
class Config(actor_critic.Config):
    """A2C's static settings: N, T, and those of every policy-gradient agent."""

    num_envs: Annotated[int, Count] = 16
    """Environments stepped in parallel (N)."""
    rollout_length: Annotated[int, Count] = 8
    """Steps each environment takes between two gradient steps (T)."""


@hyperparameters
class HParams(actor_critic.HParams):
    """A2C's traced settings: those of every policy-gradient agent, and λ."""

    gae_lambda: Annotated[float, Fraction] = 1.0
    """Weight of longer advantage estimates (λ)."""


def make(spec: EnvSpec, config: Config) -> Agent:
    """A2C for any action space and any array observation."""
    network = actor_critic.network_for(spec, config, "a2c")

    def init(key: Key, hp: HParams, params: PyTree = None) -> State:
        return actor_critic.init_state(network, spec, config, key, hp, params)

    def learn(hp: HParams, state: State, rollout: Rollout, clock: Clock, key: Key) -> tuple[State, Metrics]:
        s = rollout.steps
        values, advantages = actor_critic.values_and_advantages(network, hp, state.params, rollout)
        rows = Rows(s.obs, s.first, s.action, advantages, advantages + values, s.valid)
        return actor_critic.policy_gradient(network, config, hp, clock, state, rollout.memory, rows, key)

    return transforms.normalized(actor_critic.agent_of(network, init, learn), spec, config)
