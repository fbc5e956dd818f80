"""ops/losses.py: values and gradients against hand-worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import losses

TABLE = [  # loss, error, value, gradient
    (losses.squared, 0.0, 0.0, 0.0),
    (losses.squared, 3.0, 4.5, 3.0),  # ½ · 9
    (losses.squared, -0.5, 0.125, -0.5),
    (losses.huber, 0.0, 0.0, 0.0),
    (losses.huber, 0.5, 0.125, 0.5),  # ½ · 0.25
    (losses.huber, -0.5, 0.125, -0.5),
    (losses.huber, 1.0, 0.5, 1.0),  # where the parabola meets the line
    (losses.huber, -1.0, 0.5, -1.0),
    (losses.huber, 3.0, 2.5, 1.0),  # 3 - ½
    (losses.huber, -1e6, 999_999.5, -1.0),
]


@pytest.mark.parametrize(("loss", "error", "value", "gradient"), TABLE)
def test_value_and_gradient(loss, error, value, gradient):
    found = jax.value_and_grad(loss)(jnp.float32(error))
    np.testing.assert_allclose(found, (value, gradient), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.squared, losses.huber])
def test_losses_are_elementwise(loss):
    errors = jnp.array([[0.5, 3.0], [-2.0, 0.0]])
    expected = {losses.squared: [[0.125, 4.5], [2.0, 0.0]], losses.huber: [[0.125, 2.5], [1.5, 0.0]]}[loss]
    np.testing.assert_allclose(loss(errors), expected, rtol=1e-6)
