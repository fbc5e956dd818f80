"""Rescaling of returns, so that one network learns values of any size without clipping rewards (Pohlen et al. 2018).

Neither function cancels, as the formulas of the paper do in float32, nor has a corner at 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.core.types import Scalar

EPSILON = 1e-3


def rescale(x: jax.Array, epsilon: Scalar = EPSILON) -> jax.Array:
    """h(x) = sign(x) (√(|x| + 1) - 1) + ε x (Pohlen et al. 2018, proposition A.2). Any shape, elementwise; ε ≥ 0.

    Written without the difference: √(|x| + 1) - 1 = |x| / (√(|x| + 1) + 1).
    """
    return x / (jnp.sqrt(jnp.abs(x) + 1.0) + 1.0) + epsilon * x


def unscale(y: jax.Array, epsilon: Scalar = EPSILON) -> jax.Array:
    """x with h(x) = y. Any shape, elementwise; ε ≥ 0.

    u = sign(x) (√(|x| + 1) - 1) is the root of ε u |u| + (1 + 2ε) u = y, and x = u (|u| + 2). The paper's closed form is the
    same, but loses four digits in float32.
    """
    b = 1.0 + 2.0 * epsilon
    u = 2.0 * y / (b + jnp.sqrt(b * b + 4.0 * epsilon * jnp.abs(y)))
    return u * (jnp.abs(u) + 2.0)
