"""Sums whose rounding does not depend on what they are batched with, and the means made of them.

XLA on CPU adds a full reduction in one order alone and in another under `vmap`: a member's last bit would then depend on
the number of its neighbours. Column sums and elementwise additions keep their order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

LANES = 8


def stable_sum(x: jax.Array) -> jax.Array:
    """The sum of all of `x`, of any shape: [], its dtype. The same bits alone and in any `vmap`."""
    x = x.reshape(-1)
    lanes = jnp.pad(x, (0, -x.size % LANES)).reshape(-1, LANES).sum(0)
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return lanes[0]


class Mean(NamedTuple):
    """A mean kept as a sum and a count, so that it can be added up; without any count it reads NaN.

    total: float32 []; count: float32 [].
    """

    total: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a mean

    @staticmethod
    def of(x: jax.Array, mask: jax.Array | bool = True) -> Mean:
        """The mean of `x` (any shape) over the entries where `mask` (broadcast to `x`) holds."""
        x = jnp.asarray(x, jnp.float32)
        mask = jnp.broadcast_to(mask, x.shape)
        return Mean(stable_sum(jnp.where(mask, x, 0.0)), mask.sum(dtype=jnp.float32))

    @property
    def value(self) -> jax.Array:
        """total / count, NaN where the count is 0."""
        return jnp.where(self.count > 0, self.total / jnp.maximum(self.count, 1e-9), jnp.nan)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of `x` over the entries where `mask` (bool, same shape) holds; 0 where none does. float32 []."""
    return stable_sum(jnp.where(mask, x, 0.0)) / jnp.maximum(mask.sum(), 1)


def clip_by_global_norm(max_norm: jax.Array | float) -> optax.GradientTransformation:
    """Scale all gradients so that their joint Euclidean norm is at most `max_norm` (Pascanu et al. 2013).

    optax's, with stable sums.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        del params
        squares = [stable_sum(jnp.square(g)) for g in jax.tree.leaves(updates)]
        norm = jnp.sqrt(sum(squares[1:], squares[0]))
        scale = jnp.where(norm > max_norm, max_norm / jnp.maximum(norm, 1e-30), 1.0)
        return jax.tree.map(lambda g: g * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
