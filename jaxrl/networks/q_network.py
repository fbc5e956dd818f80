"""The network of value-based agents."""

from __future__ import annotations

import flax.linen as nn
import jax

from jaxrl.core.spaces import Space
from jaxrl.networks.initializers import near_zero
from jaxrl.networks.torsos import MLP, Layers, Torso, TorsoName


class QNetwork(nn.Module):
    """What is known of each action's return: float32 [..., A, M]; M = 1 value, or M atoms or quantiles.

    dueling: the last hidden layer and the head twice, for V(s) and A(s, ·); the output is V + A - mean_a A, per atom
    (Wang et al. 2016, equation 9; Hessel et al. 2018, section 3).
    """

    space: Space
    torso: TorsoName
    hidden_sizes: tuple[int, ...]
    num_actions: int
    num_atoms: int = 1
    dueling: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        if not self.dueling:
            return self._head(Torso(self.space, self.torso, self.hidden_sizes, self.layers)(obs), self.num_actions)
        features = Torso(self.space, self.torso, self.hidden_sizes[:-1], self.layers)(obs)
        value = self._head(MLP(self.hidden_sizes[-1:], self.layers)(features), 1)
        advantage = self._head(MLP(self.hidden_sizes[-1:], self.layers)(features), self.num_actions)
        return value + advantage - advantage.mean(-2, keepdims=True)

    def _head(self, features: jax.Array, num_actions: int) -> jax.Array:
        out = self.layers.dense(num_actions * self.num_atoms, kernel_init=near_zero)(features)
        return out.reshape(*out.shape[:-1], num_actions, self.num_atoms)
