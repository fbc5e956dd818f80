"""Small distributions over actions, as functions of their parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def categorical_log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    """log π(action) of a softmax policy: float32 []. logits: float32 [A]; action: int32 []."""
    return jax.nn.log_softmax(logits)[action]


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """H(π) = -Σ π log π in nats: float32 []. logits: float32 [A]."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.where(jnp.isfinite(log_probs), jnp.exp(log_probs) * log_probs, 0.0))  # 0 log 0 = 0
