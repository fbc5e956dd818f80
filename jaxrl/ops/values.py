"""Reading action values."""

from __future__ import annotations

import jax
import jax.numpy as jnp

ILLEGAL = -1e9  # the value, and the logit, of an action that the mask forbids: less than half of it is no other's


def at_action(values: jax.Array, action: jax.Array) -> jax.Array:
    """`values` [..., A, ...] at `action` int [...], whose axes are the leading ones: float32 without the axis A.

    A masked sum instead of an index: the gradient of an index is a scatter, which costs more than all of this.
    """
    axis = action.ndim
    chosen = jax.nn.one_hot(action, values.shape[axis], dtype=bool)
    return jnp.where(chosen.reshape(chosen.shape + (1,) * (values.ndim - axis - 1)), values, 0.0).sum(axis)
