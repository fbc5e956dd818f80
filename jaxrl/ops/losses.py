"""Losses of an error, elementwise."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def squared(error: jax.Array) -> jax.Array:
    """½ error², whose gradient is the error itself. Any shape."""
    return 0.5 * jnp.square(error)


def huber(error: jax.Array) -> jax.Array:
    """½ error² up to |error| = 1, then |error| - ½: the clipped error of Mnih et al. 2015. Any shape."""
    clipped = jnp.clip(error, -1.0, 1.0)
    return clipped * (error - 0.5 * clipped)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of `x` over the entries where `mask` (bool, same shape) holds; 0 where none does. float32 []."""
    return jnp.where(mask, x, 0.0).sum() / jnp.maximum(mask.sum(), 1)
