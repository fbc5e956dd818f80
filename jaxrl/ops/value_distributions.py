"""Distributions of returns in place of their means: targets and losses, unbatched.

M: atoms (C51) or quantiles (QR-DQN) of one action's return.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.core.types import Scalar
from jaxrl.ops import losses


def support(v_min: Scalar, v_max: Scalar, num_atoms: int) -> jax.Array:
    """The values of C51's atoms, evenly from v_min to v_max: float32 [M] (Bellemare et al. 2017, section 4)."""
    return v_min + (v_max - v_min) * jnp.arange(num_atoms, dtype=jnp.float32) / (num_atoms - 1)


def project(atoms: jax.Array, probs: jax.Array, ret: jax.Array, discount: jax.Array) -> jax.Array:
    """The distribution of ret + discount · Z on the atoms of Z: float32 [M] (Bellemare et al. 2017, algorithm 1).

    Each shifted atom, clipped to the ends, shares its mass between the two atoms around it, in inverse proportion to
    their distances. atoms: evenly spaced float32 [M]; probs: float32 [M]; ret, discount: [].
    """
    shifted = jnp.clip(ret + discount * atoms, atoms[0], atoms[-1])
    spacing = (atoms[-1] - atoms[0]) / (atoms.shape[0] - 1)
    share = jnp.clip(1 - jnp.abs(shifted[None, :] - atoms[:, None]) / spacing, 0.0, 1.0)  # [to, from]
    return (share * probs[None, :]).sum(-1)


def kl_divergence(target_probs: jax.Array, logits: jax.Array) -> jax.Array:
    """KL(target || softmax(logits)) in nats: float32 []. target_probs, logits: float32 [M].

    Its gradient in the logits is that of the cross-entropy loss (Bellemare et al. 2017, equation 7); Rainbow takes it as
    a transition's priority (Hessel et al. 2018, section 3).
    """
    log_target = jnp.log(jnp.where(target_probs > 0, target_probs, 1.0))
    return jnp.sum(target_probs * (log_target - jax.nn.log_softmax(logits)))


def quantile_huber(quantiles: jax.Array, targets: jax.Array, kappa: float = 1.0) -> jax.Array:
    """The quantile Huber loss: float32 [] (Dabney et al. 2018, equations 9 and 10).

    Σ_i E_j[|τ_i - 1{u_ij < 0}| · H_κ(u_ij) / κ] with u_ij = targets_j - quantiles_i and midpoints τ_i = (2i + 1) / 2M.
    quantiles: float32 [M]; targets: float32 [M'].
    """
    u = targets[None, :] - quantiles[:, None]  # [i, j]
    tau = (jnp.arange(quantiles.shape[0], dtype=jnp.float32) + 0.5) / quantiles.shape[0]
    return (jnp.abs(tau[:, None] - (u < 0).astype(jnp.float32)) * kappa * losses.huber(u / kappa)).mean(-1).sum()
