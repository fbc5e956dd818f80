"""Reading action values."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def at_action(values: jax.Array, action: jax.Array) -> jax.Array:
    """`values` [..., A] at `action` int [...]: float32 [...].

    A masked sum instead of an index: the gradient of an index is a scatter, which costs more than all of this.
    """
    chosen = jax.nn.one_hot(action, values.shape[-1], dtype=bool)
    return jnp.where(chosen, values, 0.0).sum(-1)
