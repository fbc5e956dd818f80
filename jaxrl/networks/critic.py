"""Critics of off-policy actor-critic agents: Q(s, a), twice over against the maximum's bias."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core.spaces import Box, Space
from jaxrl.networks.dense import Dense
from jaxrl.networks.q_network import QNetwork
from jaxrl.networks.torsos import MLP, Layers, Torso
from jaxrl.ops import boxes

NUM_CRITICS = 2


class BoxCritic(nn.Module):
    """Q(s, a): (obs, action) -> float32 [...]. Actions of a bounded Box are scaled to ±1 and join the obs's features."""

    space: Space
    action_space: Box
    torso: Any
    hidden_sizes: tuple[int, ...]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        features = Torso(self.space, self.torso, (), self.layers)(obs)
        vector = boxes.flat(action, self.action_space)
        low, width = (boxes.like(b, vector) for b in boxes.bounds(self.action_space))
        x = jnp.concatenate([features, 2.0 * (vector - low) / width - 1.0], -1)
        return Dense(1)(MLP(self.hidden_sizes, self.layers)(x))[..., 0]


def twins(module: type[nn.Module]) -> type[nn.Module]:
    """`module` with two sets of parameters: outputs [2, ...] for the same inputs."""
    own: Any = {"params": True, "dropout": True}
    return nn.vmap(module, variable_axes={"params": 0}, split_rngs=own, in_axes=None, out_axes=0, axis_size=NUM_CRITICS)


TwinBoxCritic = twins(BoxCritic)
TwinQNetwork = twins(QNetwork)
