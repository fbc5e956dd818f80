"""JAX's flags for the careful: 64 bits, no implicit promotion, no NaN. Every agent bears all three."""

import jax
import jax.numpy as jnp
import pytest

import jaxrl
from tests.small import CASES, small_case


@pytest.mark.parametrize("case", CASES)
def test_arrays_stay_of_32_bits_and_nothing_is_promoted_unasked(case):
    """Under jax_enable_x64 and jax_numpy_dtype_promotion=strict at once. Tracing finds both: nothing is compiled.

    A step changes no structure, shape or dtype, and none is weakly typed: nothing is traced twice.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        trainer = small_case(case)
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        after, row = jax.eval_shape(trainer.step, state)
        results = [
            jax.eval_shape(lambda s, g=greedy: jaxrl.evaluate(trainer, s, jax.random.key(1), 2, greedy=g), state)
            for greedy in (True, False)
        ]
    assert jax.tree.structure(state) == jax.tree.structure(after)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (x.shape, x.dtype, x.weak_type) == (y.shape, y.dtype, y.weak_type) and not x.weak_type
    state, after = (s._replace(env=()) for s in (state, after))  # gymnax keeps its own state as it likes
    named = jax.tree_util.tree_leaves_with_path((state, after, row, results))
    wide = [jax.tree_util.keystr(path) for path, x in named if x.dtype in (jnp.float64, jnp.int64)]
    assert not wide, wide
