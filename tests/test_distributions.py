"""ops/distributions.py against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxrl.ops.distributions import categorical_entropy, categorical_log_prob

LOGITS = [
    [0.0, 0.0, 0.0, 0.0],
    [1.0, -2.0, 0.5],
    [3.0],
    [30.0, 29.0, -30.0],
    list(np.random.default_rng(0).normal(size=18) * 5),
]


@pytest.mark.parametrize("logits", LOGITS)
def test_log_prob_and_entropy(logits):
    probs = scipy.special.softmax(np.array(logits, np.float64))
    policy = scipy.stats.rv_discrete(values=(np.arange(len(logits)), probs))
    actions = jnp.arange(len(logits))
    log_probs = jax.vmap(categorical_log_prob, (None, 0))(jnp.array(logits), actions)
    np.testing.assert_allclose(log_probs, policy.logpmf(np.arange(len(logits))), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(categorical_entropy(jnp.array(logits)), policy.entropy(), rtol=1e-5, atol=1e-6)


def test_adding_a_constant_changes_nothing_and_large_logits_do_not_overflow():
    """log softmax of (1000, 0) is (0, -1000) to within e⁻¹⁰⁰⁰; the entropy of a certain action is 0."""
    logits = jnp.array([1000.0, 0.0])
    found = [categorical_log_prob(logits, jnp.int32(a)) for a in (0, 1)]
    np.testing.assert_allclose(found, [0.0, -1000.0])
    assert categorical_entropy(logits) == 0.0
    np.testing.assert_allclose(categorical_entropy(logits - 1000), categorical_entropy(logits))


def test_gradients():
    """∇ log π(a) = 1[a] - π, and ∇H = -π (log π + H)."""
    logits = np.array([0.3, -1.0, 2.0])
    probs, log_probs = scipy.special.softmax(logits), scipy.special.log_softmax(logits)
    slope = jax.grad(categorical_log_prob)(jnp.array(logits), jnp.int32(1))
    np.testing.assert_allclose(slope, np.array([0, 1, 0]) - probs, rtol=1e-5, atol=1e-6)
    entropy = scipy.stats.entropy(probs)
    expected = -probs * (log_probs + entropy)
    np.testing.assert_allclose(jax.grad(categorical_entropy)(jnp.array(logits)), expected, rtol=1e-4, atol=1e-6)
