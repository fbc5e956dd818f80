"""ops/value_rescaling.py against the paper's formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.value_rescaling import EPSILON, rescale, unscale

SIZES = np.concatenate([[0.0], 10.0 ** np.arange(-8, 9)])
POINTS = np.concatenate([-SIZES[::-1], SIZES])


def paper_h(x, epsilon):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + epsilon * x


def paper_inverse(y, epsilon):
    """Pohlen et al. 2018, proposition A.2 (iii)."""
    root = np.sqrt(1 + 4 * epsilon * (np.abs(y) + 1 + epsilon))
    return np.sign(y) * (((root - 1) / (2 * epsilon)) ** 2 - 1)


def test_by_hand():
    """√(3 + 1) - 1 = 1 and √(8 + 1) - 1 = 2, and ε of x."""
    np.testing.assert_allclose(rescale(jnp.array([3.0, -8.0, 0.0]), 0.01), [1.03, -2.08, 0.0], rtol=1e-6)
    np.testing.assert_allclose(unscale(jnp.array([1.03, -2.08, 0.0]), 0.01), [3.0, -8.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("epsilon", [EPSILON, 1e-2, 1.0])
def test_against_the_paper(epsilon):
    """In float64 the paper's forms are good to 1e-9 of 1; ours hold float32's digits at every size."""
    np.testing.assert_allclose(rescale(jnp.float32(POINTS), epsilon), paper_h(POINTS, epsilon), rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(unscale(jnp.float32(POINTS), epsilon), paper_inverse(POINTS, epsilon), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("epsilon", [0.0, EPSILON, 1.0])
def test_inverse(epsilon):
    x = jnp.float32(POINTS)
    np.testing.assert_allclose(unscale(rescale(x, epsilon), epsilon), x, rtol=2e-6)
    np.testing.assert_allclose(rescale(unscale(x, epsilon), epsilon), x, rtol=2e-6)


def test_slopes():
    """h'(x) = 1 / (2 √(|x| + 1)) + ε, at 0 as well, and the inverse's is one over it."""
    x = jnp.float32(POINTS)
    expected = 0.5 / np.sqrt(np.abs(POINTS) + 1) + EPSILON
    np.testing.assert_allclose(jax.vmap(jax.grad(rescale))(x), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(unscale))(rescale(x)), 1 / expected, rtol=1e-5)
