"""Vectors [..., D] and the elements [..., *space.shape] of a Box, D = prod(space.shape)."""

from __future__ import annotations

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import UNBOUNDED, Box


def is_bounded(space: Box) -> bool:
    """Whether every element has finite bounds, low < high."""
    low, high = (np.asarray(b, np.float64) for b in (space.low, space.high))
    return bool((np.maximum(np.abs(low), np.abs(high)) < UNBOUNDED).all() and (low < high).all())


@functools.lru_cache
def bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """low and high - low: float32 [D] each. Raises ValueError where not every element is bounded."""
    if not is_bounded(space):
        raise InputError(f"{space} from {space.low} to {space.high} is not bounded; valid box_policy here: gaussian")
    low, high = (np.broadcast_to(np.asarray(b, np.float64), space.shape).reshape(-1) for b in (space.low, space.high))
    return low.astype(np.float32), (high - low).astype(np.float32)


def like(vector: np.ndarray, x: jax.Array) -> jax.Array:
    """`vector` [D] for each batch entry of `x` [..., D]: float32 [..., D]."""
    return jnp.broadcast_to(jnp.asarray(vector, jnp.float32), x.shape)


def shaped(vector: jax.Array, space: Box) -> jax.Array:
    """`vector` [..., D] as elements of the space, bounds aside: `space.dtype` [..., *space.shape]."""
    return vector.reshape(*vector.shape[:-1], *space.shape).astype(space.dtype)


def flat(x: jax.Array, space: Box) -> jax.Array:
    """Elements of the space as vectors: float32 [..., D]. The inverse of `shaped`."""
    batch = x.shape[: x.ndim - len(space.shape)]
    chex.assert_shape(x, (*batch, *space.shape))
    return x.reshape(*batch, math.prod(space.shape)).astype(jnp.float32)


def distances(x: jax.Array, space: Box) -> tuple[jax.Array, jax.Array]:
    """How far elements of a bounded space are from low and from high, in widths, exact next to either: float32 [..., D]."""
    low, width = bounds(space)
    vector = flat(x, space)
    high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape).reshape(-1)
    return (vector - like(low, vector)) / like(width, vector), (like(high, vector) - vector) / like(width, vector)


def from_unit(vector: jax.Array, space: Box) -> jax.Array:
    """Elements of a bounded space from `vector` [..., D] in [0, 1], within the bounds also after rounding."""
    low, width = (like(b, vector) for b in bounds(space))
    x = shaped(low + width * vector, space)
    ends = (jnp.broadcast_to(jnp.asarray(b, space.dtype), x.shape) for b in (space.low, space.high))
    return jnp.clip(x, *ends)
