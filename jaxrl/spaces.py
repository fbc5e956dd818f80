"""Observation and action spaces: small, immutable and hashable, so that they can be static under `jit`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0 … n - 1 as an int32 scalar."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> Any:
        return jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw: int32, shape ()."""
        return jax.random.randint(key, (), 0, self.n, dtype=jnp.int32)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` lies in the space: bool, shape ()."""
        return (x >= 0) & (x < self.n)

    def __str__(self) -> str:
        return f"Discrete({self.n})"


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape and dtype, bounded element by element.

    `low` and `high` are a float for all elements, or nested tuples of the space's shape (tuples, to stay hashable).
    """

    shape: tuple[int, ...]
    low: Any = -math.inf
    high: Any = math.inf
    dtype: Any = jnp.float32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw between the bounds, infinite ones replaced by ±1; whole numbers include both. `self.shape`."""
        if self.dtype == jnp.bool_:
            return jax.random.bernoulli(key, shape=self.shape)
        low, high = (jnp.broadcast_to(jnp.asarray(b, jnp.float32), self.shape) for b in (self.low, self.high))
        low, high = jnp.where(jnp.abs(low) < 1e30, low, -1.0), jnp.where(jnp.abs(high) < 1e30, high, 1.0)
        if jnp.issubdtype(self.dtype, jnp.integer):
            low, high = low.astype(jnp.int32), high.astype(jnp.int32) + 1
            return jax.random.randint(key, self.shape, low, high).astype(self.dtype)
        return jax.random.uniform(key, self.shape, minval=low, maxval=high).astype(self.dtype)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` lies in the space: bool, shape ()."""
        return jnp.all((x >= jnp.asarray(self.low)) & (x <= jnp.asarray(self.high)))

    def __str__(self) -> str:
        return f"Box{self.shape}"


Space = Discrete | Box
