"""Behaviour cloning: a policy that does what was recorded (Pomerleau 1991), by maximum likelihood:

    L(θ) = -E[log π(a | s; θ)]    over recorded (s, a)

Of any action space, with a torso that has a memory over recorded episodes. The policy's leaves are named as those of ppo,
a2c and reinforce, which go on with them by `init_from`. An evaluation's return is the share of recorded actions that the
mode equals, of boxes minus its mean squared error.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import supervised
from jaxrl.agents.parts.supervised import HParams
from jaxrl.core.spaces import Box, check_mask
from jaxrl.core.types import Agent, EnvSpec, PyTree
from jaxrl.networks.policy import BoxPolicy, check_space
from jaxrl.networks.supervised import PolicyNetwork
from jaxrl.ops import boxes

__all__ = ["Config", "HParams", "make"]

INSIDE = 1e-3  # of a box's width: how far from its bounds recorded actions are moved, where a density is infinite or 0


@dataclasses.dataclass(frozen=True)
class Config(supervised.Config):
    """Cloning's static settings: network and batch, and the distribution over boxes."""

    box_policy: BoxPolicy = "squashed_gaussian"
    """Distribution over bounded continuous actions, that of the agent that is to go on; unbounded ones need gaussian."""


def within(action: Any, space: Any) -> Any:
    """Actions of a bounded box moved off its bounds by a thousandth of its width; others as they are."""
    if not isinstance(space, Box) or not boxes.is_bounded(space):
        return action
    low, width = (jnp.asarray(x).reshape(space.shape) for x in boxes.bounds(space))
    margin = jnp.broadcast_to(INSIDE * width, action.shape)
    low, width = jnp.broadcast_to(low, action.shape), jnp.broadcast_to(width, action.shape)
    return jnp.clip(action, low + margin, low + width - margin)


def make(spec: EnvSpec, config: Config) -> Agent:
    """Cloning of recorded actions of any space, from any observation."""
    seen, space = supervised.spaces(spec, "clone")
    check_space(space, config.box_policy, "clone")
    check_mask(seen, space)
    network = PolicyNetwork(supervised.torso_for(seen, config), space, config.box_policy)

    def loss(policy: Any, target: PyTree) -> jax.Array:
        return -policy.log_prob(within(target, space))

    return supervised.agent_of(spec, config, network, loss, lambda policy: policy.mode())
