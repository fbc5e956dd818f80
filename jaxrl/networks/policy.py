"""The head of policy-gradient agents: features -> a distribution over the actions of any space."""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product, Space
from jaxrl.networks.dense import Dense
from jaxrl.networks.initializers import orthogonal
from jaxrl.ops.boxes import is_bounded
from jaxrl.ops.distributions import Beta, Categorical, Distribution, Gaussian, Joint, MultiCategorical, SquashedGaussian
from jaxrl.ops.values import ILLEGAL

BoxPolicy = Literal["gaussian", "squashed_gaussian", "beta"]
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0  # of a deviation that depends on the state, as in implementations of SAC


def check_space(space: Space, box_policy: BoxPolicy, agent: str) -> None:
    """Raises ValueError for actions of which `box_policy` is no distribution: integers in a box, or bounds that lack."""
    if isinstance(space, Product):
        for part in space.spaces:
            check_space(part, box_policy, agent)
    if not isinstance(space, Box):
        return
    if not jnp.issubdtype(space.dtype, jnp.floating):
        name = jnp.dtype(space.dtype).name
        raise InputError(f"agent {agent!r} needs boxes of floats as actions, not {space} of {name}; use MultiDiscrete")
    if box_policy != "gaussian" and not is_bounded(space):
        where = f"{space} with low = {space.low}, high = {space.high}"
        raise InputError(
            f"agent {agent!r}: box_policy = {box_policy} needs bounded actions, not {where}; valid here: gaussian"
        )


class PolicyHead(nn.Module):
    """features [..., F] -> Distribution over `space`, its parameters from one linear layer for each array of an action.

    box_policy: over boxes. state_dependent_std: log σ from the features, bounded smoothly to [-5, 2], else parameters of
    their own; both begin at 0. Beta (α, β = 1 + softplus) has no σ.
    """

    space: Space
    box_policy: BoxPolicy = "squashed_gaussian"
    state_dependent_std: bool = False

    @nn.compact
    def __call__(self, features: jax.Array) -> Distribution:
        if isinstance(self.space, Product):
            heads = [PolicyHead(part, self.box_policy, self.state_dependent_std) for part in self.space.spaces]
            return Joint(tuple(head(features) for head in heads), self.space)
        if isinstance(self.space, Discrete):
            return Categorical(self._dense(features, self.space.n))
        if isinstance(self.space, MultiDiscrete):
            return MultiCategorical(self._dense(features, sum(self.space.sizes)), self.space.sizes)
        return self._over_box(features, self.space)

    def _dense(self, features: jax.Array, size: int) -> jax.Array:
        return Dense(size, kernel_init=orthogonal(0.01))(features)

    def _over_box(self, features: jax.Array, space: Box) -> Distribution:
        size = math.prod(space.shape)
        if self.box_policy == "beta":
            alpha, beta = jnp.split(1.0 + jax.nn.softplus(self._dense(features, 2 * size)), 2, -1)
            return Beta(alpha, beta, space)
        family = Gaussian if self.box_policy == "gaussian" else SquashedGaussian
        if self.state_dependent_std:
            mean, raw = jnp.split(self._dense(features, 2 * size), 2, -1)
            return family(mean, bounded_log_std(raw), space)
        mean = self._dense(features, size)
        log_std = self.param("log_std", nn.initializers.zeros, (size,), jnp.float32)
        return family(mean, jnp.broadcast_to(log_std, mean.shape), space)


def masked(policy: Distribution, legal: jax.Array | None) -> Distribution:
    """`policy` that takes legal actions only, bool [..., A]; None: itself."""
    return policy if legal is None else Categorical(jnp.where(legal, policy.logits, ILLEGAL))  # type: ignore[attr-defined]


def bounded_log_std(raw: jax.Array) -> jax.Array:
    """`raw` of any shape moved smoothly into [-5, 2], 0 to 0."""
    middle, half = (LOG_STD_MAX + LOG_STD_MIN) / 2, (LOG_STD_MAX - LOG_STD_MIN) / 2
    return middle + half * jnp.tanh(raw + math.atanh(-middle / half))
