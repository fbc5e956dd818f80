"""The network of policy-gradient agents: a policy over any action space and a state value."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax

from jaxrl.core.spaces import Space, legal_actions
from jaxrl.core.types import PyTree
from jaxrl.networks.dense import Dense
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.policy import BoxPolicy, PolicyHead, masked
from jaxrl.networks.torsos import SequenceTorso
from jaxrl.ops.distributions import Distribution


class Output(NamedTuple):
    """policy: π(· | obs), batch axes [...]. value: V(obs), float32 [...]."""

    policy: Distribution
    value: jax.Array


class ActorCritic(nn.Module):
    """Policy and state value: (memory, obs, first) -> (Output, memory after the last step, leaves [N, ...]).

    With memory obs is [T, N, ...]; without, its leading axes are free. torso: of the policy and of the value, each its own
    unless `shared`. What of the output is not used costs nothing under `jit`.
    """

    action_space: Space
    torso: SequenceTorso
    box_policy: BoxPolicy = "squashed_gaussian"
    shared: bool = False

    @property
    def remembers(self) -> bool:
        """Whether the torso has a memory."""
        return self.torso.remembers

    @nn.nowrap
    def initial(self, num_envs: int) -> PyTree:
        """The memory at the start of an episode: () without one, else of the policy's torso and of the value's."""
        return (self.torso.initial(num_envs),) * (1 if self.shared else 2) if self.remembers else ()

    def setup(self) -> None:
        self.actor = self.torso.copy(name="actor")
        self.critic = self.actor if self.shared else self.torso.copy(name="critic")
        self.policy_head = PolicyHead(self.action_space, self.box_policy)
        self.value_head = Dense(1, kernel_init=orthogonal(1.0))

    def __call__(self, memory: PyTree, obs: jax.Array, first: jax.Array | None = None) -> tuple[Output, PyTree]:
        torsos = (self.actor,) if self.shared else (self.actor, self.critic)
        memories = memory if self.remembers else ((),) * len(torsos)
        outs = [torso(m, obs, first) for torso, m in zip(torsos, memories, strict=True)]
        features, memories = zip(*outs, strict=True)
        policy = masked(self.policy_head(features[0]), legal_actions(self.torso.space, obs))
        output = Output(policy, self.value_head(features[-1])[..., 0])
        return output, memories if self.remembers else ()
