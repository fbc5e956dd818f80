"""The network of value-based agents."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core.spaces import Space, legal_actions
from jaxrl.core.types import PyTree
from jaxrl.networks.initializers import near_zero
from jaxrl.networks.torsos import MLP, Layers, SequenceTorso, Torso, remembers, torso_of
from jaxrl.ops.values import ILLEGAL


class QNetwork(nn.Module):
    """(memory, obs, first) -> (what is known of each action's return, float32 [..., A, M], memory).

    torso: a Config's. M = 1 value, or M atoms or quantiles. With a memory obs is [T, N, ...] and first [T, N]; without, any
    leading axes do and the memory is (). window: of a transformer.
    dueling: a hidden layer and a head for V(s), and for A(s, ·); the output is V + A - mean_a A, per atom (Wang et al. 2016,
    equation 9; Hessel et al. 2018, section 3). The hidden layer is the last of hidden_sizes; a memory of that size, which
    both streams need, comes before it.
    Of an action that the observation's mask forbids all numbers are `ILLEGAL`.
    """

    space: Space
    torso: Any
    hidden_sizes: tuple[int, ...]
    num_actions: int
    num_atoms: int = 1
    dueling: bool = False
    layers: Layers = Layers()
    window: int = 16

    @property
    def remembers(self) -> bool:
        """Whether the torso has a memory."""
        return remembers(self.torso)

    @nn.nowrap
    def check(self) -> None:
        """Raises InputError where the torso cannot be made or cannot take the space's observations."""
        torso_of(self.torso, self.space, self.hidden_sizes, self.layers, self.window)

    @nn.nowrap
    def initial(self, num_envs: int) -> PyTree:
        """The memory before an episode, leaves [num_envs, ...]; () without one."""
        return self._sequence_torso(parent=None).initial(num_envs)

    @nn.compact
    def __call__(self, memory: PyTree, obs: jax.Array, first: jax.Array | None = None) -> tuple[jax.Array, PyTree]:
        if self.remembers:
            features, memory = self._sequence_torso()(memory, obs, first)
        else:
            hidden_sizes = self.hidden_sizes[:-1] if self.dueling else self.hidden_sizes
            features = Torso(self.space, self.torso, hidden_sizes, self.layers)(obs)
        if not self.dueling:
            return self._legal(self._head(features, self.num_actions), obs), memory
        value = self._head(MLP(self.hidden_sizes[-1:], self.layers)(features), 1)
        advantage = self._head(MLP(self.hidden_sizes[-1:], self.layers)(features), self.num_actions)
        return self._legal(value + advantage - advantage.mean(-2, keepdims=True), obs), memory

    def _legal(self, out: jax.Array, obs: Any) -> jax.Array:
        legal = legal_actions(self.space, obs)
        return out if legal is None else jnp.where(legal[..., None], out, ILLEGAL)

    @nn.nowrap
    def _sequence_torso(self, **module: Any) -> SequenceTorso:
        return SequenceTorso(self.space, self.torso, self.hidden_sizes, self.layers, self.window, **module)

    def _head(self, features: jax.Array, num_actions: int) -> jax.Array:
        out = self.layers.dense(num_actions * self.num_atoms, kernel_init=near_zero)(features)
        return out.reshape(*out.shape[:-1], num_actions, self.num_atoms)
