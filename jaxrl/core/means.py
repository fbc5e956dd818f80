"""Means over the entries that count."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mean(NamedTuple):
    """A mean kept as a sum and a count, so that it can be added up; without any count it reads NaN (see `value`).

    total: float32 []; count: float32 [].
    """

    total: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a mean

    @staticmethod
    def of(x: jax.Array, mask: jax.Array | bool = True) -> Mean:
        """The mean of `x` (any shape) over the entries where `mask` (broadcast to `x`) holds."""
        x = jnp.asarray(x, jnp.float32)
        mask = jnp.broadcast_to(mask, x.shape)
        return Mean(jnp.where(mask, x, 0.0).sum(), mask.sum(dtype=jnp.float32))

    @property
    def value(self) -> jax.Array:
        """total / count, NaN where the count is 0: 0 instead if `jax_debug_nans` is set when this is traced.

        That flag has JAX refuse every program with a NaN among its results, also one that means "none".
        """
        nothing = 0.0 if jax.config.jax_debug_nans else jnp.nan  # type: ignore[attr-defined]
        return jnp.where(self.count > 0, self.total / jnp.maximum(self.count, 1e-9), nothing)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of `x` over the entries where `mask` (bool, same shape) holds; 0 where none does. float32 []."""
    return jnp.where(mask, x, 0.0).sum() / jnp.maximum(mask.sum(dtype=jnp.int32), 1).astype(jnp.float32)
