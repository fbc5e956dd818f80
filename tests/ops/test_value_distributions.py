"""ops/value_distributions.py on numbers worked out by hand, and against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxrl.ops.value_distributions import kl_divergence, project, quantile_huber, support


def test_support():
    np.testing.assert_allclose(support(jnp.float32(-1), jnp.float32(2), 4), [-1, 0, 1, 2])


@pytest.mark.parametrize(
    ("ret", "discount", "probs", "expected"),
    [
        (0.0, 1.0, [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]),  # unchanged
        (0.25, 0.0, [0.2, 0.5, 0.3], [0.0, 0.75, 0.25]),  # terminal: all mass at ¼, a quarter of the way from 0 to 1
        (0.5, 1.0, [0.2, 0.5, 0.3], [0.1, 0.35, 0.55]),  # -½, ½, 1½: halves, and the last is clipped to 1
        (9.0, 1.0, [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]),
        (-9.0, 1.0, [0.2, 0.5, 0.3], [1.0, 0.0, 0.0]),
        (0.0, 0.5, [0.4, 0.2, 0.4], [0.2, 0.6, 0.2]),  # -½, 0, ½
    ],
)
def test_projection_by_hand(ret, discount, probs, expected):
    """Atoms -1, 0, 1."""
    found = project(jnp.array([-1.0, 0.0, 1.0]), jnp.array(probs), jnp.float32(ret), jnp.float32(discount))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_projection_equals_the_papers_loop(seed):
    """Algorithm 1 of Bellemare et al. 2017, atom by atom."""
    rng = np.random.default_rng(seed)
    low, high, m = -3.0, 5.0, 21
    atoms, probs = np.linspace(low, high, m), rng.dirichlet(np.ones(m))
    ret, discount = rng.normal() * 2, rng.uniform()
    expected = np.zeros(m)
    for j in range(m):
        b = (np.clip(ret + discount * atoms[j], low, high) - low) / ((high - low) / (m - 1))
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        if lower == upper:
            expected[lower] += probs[j]
        else:
            expected[lower] += probs[j] * (upper - b)
            expected[upper] += probs[j] * (b - lower)
    arrays = [jnp.array(x, jnp.float32) for x in (atoms, probs, ret, discount)]
    found = project(*arrays)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
    if (np.abs(ret + discount * atoms) < 3).all():  # without clipping the projection keeps the mean
        np.testing.assert_allclose(found @ atoms, ret + discount * probs @ atoms, rtol=1e-4)


def test_kl_divergence_against_scipy_and_its_gradient():
    target, logits = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.3, -1.0, 2.0])
    probs = scipy.special.softmax(np.asarray(logits, np.float64))
    np.testing.assert_allclose(kl_divergence(target, logits), scipy.stats.entropy(target, probs), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(kl_divergence, 1)(target, logits), probs - np.asarray(target), atol=1e-6)
    same = jax.nn.softmax(logits)
    np.testing.assert_allclose(kl_divergence(same, logits), 0.0, atol=1e-6)


def test_quantile_huber_by_hand():
    """Quantiles 0, 4 (midpoints ¼, ¾); targets 1, -2. u: 1, -2 | -3, -6. Huber: ½, 1½ | 2½, 5½.

    |τ - 1{u < 0}|: ¼, ¾ | ¼, ¼. Mean over targets, summed: (⅛ + 1⅛) / 2 + (⅝ + 1⅜) / 2 = 0.625 + 1 = 1.625.
    """
    np.testing.assert_allclose(quantile_huber(jnp.array([0.0, 4.0]), jnp.array([1.0, -2.0])), 1.625)
    # κ = 4: H / κ of 1, -2 | -3, -6 is ½/4, 2/4 | 4½/4, (4 · (6 - 2))/4 = 4
    expected = (0.25 * 0.125 + 0.75 * 0.5) / 2 + (0.25 * 1.125 + 0.25 * 4) / 2
    np.testing.assert_allclose(quantile_huber(jnp.array([0.0, 4.0]), jnp.array([1.0, -2.0]), 4.0), expected)


def test_quantile_regression_finds_the_quantiles():
    """Gradient descent on the loss with a small κ (then it is quantile regression) against numpy's quantiles."""
    targets = jnp.array(np.random.default_rng(0).exponential(size=400), jnp.float32)
    slope = jax.jit(jax.grad(lambda q: quantile_huber(q, targets, 1e-3)))
    found = jnp.zeros(5)
    for rate in np.geomspace(1.0, 0.01, 400):
        found = found - rate * slope(found)
    np.testing.assert_allclose(found, np.quantile(targets, [0.1, 0.3, 0.5, 0.7, 0.9]), atol=0.03)
