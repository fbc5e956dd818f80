"""ops/means.py: means by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.means import Mean, masked_mean

MEANS = [  # x, mask, mean, gradient
    ([1, 2, 6], [1, 1, 1], 3.0, [1 / 3, 1 / 3, 1 / 3]),
    ([1, 2, 6], [1, 0, 1], 3.5, [0.5, 0, 0.5]),
    ([1, 2, 6], [0, 1, 0], 2.0, [0, 1, 0]),
    ([1, 2, 6], [0, 0, 0], 0.0, [0, 0, 0]),
    ([1, np.nan, np.inf], [1, 0, 0], 1.0, [1, 0, 0]),  # what is masked may be anything
]


@pytest.mark.parametrize(("x", "mask", "mean", "gradient"), MEANS)
def test_masked_mean(x, mask, mean, gradient):
    value, slope = jax.value_and_grad(masked_mean)(jnp.array(x, jnp.float32), jnp.array(mask, bool))
    assert value.shape == () and value.dtype == jnp.float32
    np.testing.assert_allclose(value, mean, rtol=1e-6)
    np.testing.assert_allclose(slope, gradient, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "mask", "total", "count", "value"),
    [
        ([1, 2, 6], True, 9.0, 3.0, 3.0),
        ([1, 2, 6], [True, False, True], 7.0, 2.0, 3.5),
        ([1, 2, 6], False, 0.0, 0.0, np.nan),
        ([[1, 2], [3, 4]], [[True, False], [False, True]], 5.0, 2.0, 2.5),
        ([np.nan, 5], [False, True], 5.0, 1.0, 5.0),
        (4, True, 4.0, 1.0, 4.0),
        ([True, False, True, True], True, 3.0, 4.0, 0.75),
    ],
)
def test_mean(x, mask, total, count, value):
    mean = Mean.of(jnp.array(x), jnp.array(mask))
    assert {(m.shape, str(m.dtype)) for m in mean} == {((), "float32")}
    np.testing.assert_allclose((*mean, mean.value), (total, count, value), rtol=1e-6)


def test_means_add_up():
    """Of (1, 3) and (8): total 12 over 3, which is not the mean of the means."""
    both = jax.tree.map(jnp.add, Mean.of(jnp.array([1.0, 3.0])), Mean.of(jnp.array([8.0])))
    np.testing.assert_allclose(both.value, 4.0)


def test_a_mean_of_nothing_is_no_nan_where_jax_refuses_them():
    with jax.debug_nans(True):
        assert jax.jit(lambda x: Mean.of(x, False).value)(jnp.float32(1)) == 0
    assert np.isnan(jax.jit(lambda x: Mean.of(x + 1, False).value)(jnp.float32(1)))
