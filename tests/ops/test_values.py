"""ops/values.py against NumPy indexing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.values import at_action


@pytest.mark.parametrize("batch", [(), (5,), (3, 4)])
@pytest.mark.parametrize("num_actions", [1, 2, 18])
@pytest.mark.parametrize("rest", [(), (3,)])
def test_at_action(batch, num_actions, rest):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(*batch, num_actions, *rest)).astype(np.float32)
    action = rng.integers(0, num_actions, batch).astype(np.int32)
    found = at_action(jnp.array(values), jnp.array(action))
    assert found.shape == (*batch, *rest) and found.dtype == jnp.float32
    expected = np.stack([values[i][action[i]] for i in np.ndindex(*batch)]).reshape((*batch, *rest))
    np.testing.assert_array_equal(found, expected)


def test_only_the_action_taken_is_read_and_has_a_gradient():
    values = jnp.array([np.nan, 2.0, -np.inf])
    value, slope = jax.value_and_grad(at_action)(values, jnp.int32(1))
    assert value == 2.0
    np.testing.assert_array_equal(slope, [0.0, 1.0, 0.0])
