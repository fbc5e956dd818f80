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
