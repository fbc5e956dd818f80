"""Autoencoding: a torso learns features from which a decoder draws the observation again (Hinton & Salakhutdinov 2006):

    L(θ) = E[mean over pixels of (decoder(torso(x)) - x)²]

The decoder has the dense hidden layers in reverse. What the torso learns other agents begin with by `init_from`. An
evaluation's return is minus the mean squared error.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import supervised
from jaxrl.agents.parts.supervised import Config, HParams
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box
from jaxrl.core.types import Agent, EnvSpec
from jaxrl.networks.supervised import Autoencoder

__all__ = ["Config", "HParams", "make"]


def make(spec: EnvSpec, config: Config) -> Agent:
    """Autoencoding of observations in a Box of floats."""
    seen, space = supervised.spaces(spec, "reconstruct")
    if not isinstance(space, Box) or not jnp.issubdtype(space.dtype, jnp.floating):
        raise InputError(
            f"agent 'reconstruct' needs a box of floats as the target (target=observation); {spec.id} has {space}"
        )
    network = Autoencoder(supervised.torso_for(seen, config), space, config.hidden_sizes)

    def loss(drawn: jax.Array, target: jax.Array) -> jax.Array:
        errors = jnp.square(drawn - target)
        return errors.mean(tuple(range(-len(space.shape), 0)))

    return supervised.agent_of(spec, config, network, loss, lambda drawn: drawn)
