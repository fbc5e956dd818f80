"""ops/exploration.py: schedules by hand, action frequencies against exact probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.ops.exploration import epsilon_greedy, linear_schedule, random_argmax

DRAWS = 100_000
CHANCE = 1e-4  # a test statistic this unlikely is taken for a bug; the keys are fixed


@pytest.mark.parametrize(
    ("progress", "start", "end", "fraction", "expected"),
    [
        (0.0, 1.0, 0.1, 0.5, 1.0),
        (0.25, 1.0, 0.1, 0.5, 0.55),  # half of the way: (1 + 0.1) / 2
        (0.5, 1.0, 0.1, 0.5, 0.1),
        (0.75, 1.0, 0.1, 0.5, 0.1),
        (1.0, 1.0, 0.1, 1.0, 0.1),
        (0.5, 0.0, 2.0, 1.0, 1.0),  # rising
        (0.0, 1.0, 0.1, 0.0, 0.1),  # a fraction of 0 is the end from the first step
        (1.0, 1.0, 0.1, 0.0, 0.1),
    ],
)
def test_linear_schedule(progress, start, end, fraction, expected):
    value = jax.jit(linear_schedule)(*map(jnp.float32, (progress, start, end, fraction)))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_linear_schedule_of_a_zero_fraction_has_finite_gradients():
    slopes = jax.grad(linear_schedule, (1, 2))(jnp.float32(0.0), jnp.float32(1.0), jnp.float32(0.1), jnp.float32(0.0))
    np.testing.assert_allclose(slopes, (0.0, 1.0))  # the value is `end`


def counts(seed, q_values, epsilon):
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    draw = jax.vmap(epsilon_greedy, (0, None, None))
    actions = jax.jit(draw)(keys, jnp.array(q_values, jnp.float32), jnp.float32(epsilon))
    assert actions.dtype == jnp.int32 and actions.shape == (DRAWS,)
    return np.bincount(actions, minlength=len(q_values))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("q_values", [[0.0, 3.0, 1.0], [5.0, 4.0], list(range(18))])
def test_epsilon_greedy_frequencies(q_values, epsilon):
    """π(a) = ε / A, plus 1 - ε for the greedy action: a χ² test against exactly that."""
    probs = np.full(len(q_values), epsilon / len(q_values))
    probs[np.argmax(q_values)] += 1 - epsilon
    found = counts(0, q_values, epsilon)
    assert (found > 0).all()
    assert scipy.stats.chisquare(found, probs * DRAWS).pvalue > CHANCE


def test_epsilon_zero_is_greedy_and_takes_the_first_of_equal_values():
    np.testing.assert_array_equal(counts(1, [1.0, 3.0, 3.0], 0.0), [0, DRAWS, 0])


def test_epsilon_one_ignores_the_values():
    np.testing.assert_array_equal(counts(2, [0.0, 9.0, 0.0], 1.0), counts(2, [0.0, 0.0, -9.0], 1.0))


def test_one_action():
    np.testing.assert_array_equal(counts(3, [0.5], 0.3), [DRAWS])


@pytest.mark.parametrize(
    ("x", "best"),
    [([1.0, 3.0, 3.0, 0.0, 3.0], [1, 2, 4]), ([2.0, 2.0], [0, 1]), ([-np.inf, -np.inf], [0, 1])],
)
def test_random_argmax_is_uniform_over_ties(x, best):
    keys = jax.random.split(jax.random.key(4), DRAWS)
    found = np.bincount(jax.vmap(random_argmax, (0, None))(keys, jnp.array(x)), minlength=len(x))
    assert found[best].sum() == DRAWS
    assert scipy.stats.chisquare(found[best]).pvalue > CHANCE


def test_random_argmax_of_a_single_maximum():
    found = jax.vmap(random_argmax, (0, None))(jax.random.split(jax.random.key(5), 1000), jnp.array([-5.0, -1.0, -1.5]))
    np.testing.assert_array_equal(found, 1)
