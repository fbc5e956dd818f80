"""Networks that learn from examples: a torso, and what answers on it. Called as (memory, obs, first) -> (answer, memory)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax

from jaxrl.core.spaces import Space, legal_actions
from jaxrl.core.types import PyTree
from jaxrl.networks.dense import Dense
from jaxrl.networks.policy import BoxPolicy, PolicyHead, masked
from jaxrl.networks.torsos import MLP, SequenceTorso


class Remembering(nn.Module):
    """What networks on one torso share: its memory. torso: as in `ActorCritic`."""

    torso: SequenceTorso

    @property
    def remembers(self) -> bool:
        """Whether the torso has a memory."""
        return self.torso.remembers

    @nn.nowrap
    def initial(self, num_envs: int) -> PyTree:
        """The memory at the start of an episode, as an ActorCritic's actor has it; () without one."""
        return self.torso.initial(num_envs)


class PolicyNetwork(Remembering):
    """A policy alone, its leaves named as those of an ActorCritic's: the answer is a Distribution over `action_space`."""

    action_space: Any = None
    box_policy: BoxPolicy = "squashed_gaussian"

    def setup(self) -> None:
        self.actor = self.torso.copy(name="actor")
        self.policy_head = PolicyHead(self.action_space, self.box_policy)

    def __call__(self, memory: PyTree, obs: Any, first: jax.Array | None = None) -> tuple[Any, PyTree]:
        features, memory = self.actor(memory, obs, first)
        return masked(self.policy_head(features), legal_actions(self.torso.space, obs)), memory


class Classifier(Remembering):
    """Logits of `num_labels` labels, float32 [..., labels]."""

    num_labels: int = 2

    @nn.compact
    def __call__(self, memory: PyTree, obs: Any, first: jax.Array | None = None) -> tuple[jax.Array, PyTree]:
        features, memory = self.torso(memory, obs, first)
        return Dense(self.num_labels)(features), memory


class Decoder(nn.Module):
    """Hidden layers, the encoder's in reverse, then a linear one: features -> float32 [..., *shape]."""

    hidden_sizes: tuple[int, ...]
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        x = Dense(math.prod(self.shape))(MLP(self.hidden_sizes)(features))
        return x.reshape(*x.shape[:-1], *self.shape)


class Autoencoder(Remembering):
    """The observation drawn again from its features, float32 [..., *space.shape]."""

    space: Space | None = None
    hidden_sizes: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, memory: PyTree, obs: Any, first: jax.Array | None = None) -> tuple[jax.Array, PyTree]:
        features, memory = self.torso(memory, obs, first)
        decoder = Decoder(self.hidden_sizes[::-1], self.space.shape, name="decoder")  # type: ignore[union-attr]
        return decoder(features), memory
