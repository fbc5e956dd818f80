"""Weight initialisers without LAPACK: a vmapped QR deadlocks XLA on CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.core.types import Key

ITERATIONS = 40

# For heads of action values: a tenth of LeCun's scale, so that training starts from values near 0. With LeCun's own, whose
# first targets are noise, 10 of 32 seeds of DQN on CartPole (CleanRL's settings) ended below 475; with this, none of 40.
near_zero = jax.nn.initializers.variance_scaling(0.01, "fan_in", "uniform")


def orthogonal(scale: float = 1.0) -> Callable[..., jax.Array]:
    """Initialiser of random (semi-)orthogonal matrices times `scale` (Saxe et al. 2014), by matrix products alone.

    The polar factor of a Gaussian matrix is distributed as the Q of its QR decomposition with positive diagonal: both are
    Haar. Newton–Schulz, X ← 1.5 X - 0.5 X Xᵀ X (Higham 2008, section 8.3), finds it: a singular value below √3 goes to 1,
    small ones growing by half each time, hence the fixed number of iterations.
    Axes before the last are flattened into rows.
    """

    def init(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _orthogonal(key, tuple(shape), dtype, scale)

    return init


# Flax traces an initialiser whenever a network is applied, to compare shapes; so it is traced once for each shape.
@functools.partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _orthogonal(key: Key, shape: tuple[int, ...], dtype: Any, scale: float) -> jax.Array:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    x = jax.random.normal(key, (max(rows, columns), min(rows, columns)), jnp.float32)
    x = x / jnp.sqrt(jnp.sum(x * x))  # Frobenius norm ≥ largest singular value

    def newton_schulz(_: int, x: jax.Array) -> jax.Array:
        return 1.5 * x - 0.5 * x @ (x.T @ x)

    x = jax.lax.fori_loop(0, ITERATIONS, newton_schulz, x)
    return (scale * (x if rows >= columns else x.T)).reshape(shape).astype(dtype)
