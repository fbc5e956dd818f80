"""spaces.py: membership by hand, draws within bounds and uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product

INF = np.inf
NESTED = Box((2,), (-1.0, 0.0), (1.0, 5.0))


@pytest.mark.parametrize(
    ("space", "x", "inside"),
    [
        (Discrete(3), 0, True),
        (Discrete(3), 2, True),
        (Discrete(3), 3, False),
        (Discrete(3), -1, False),
        (Box((2,), 0.0, 1.0), [0.0, 1.0], True),
        (Box((2,), 0.0, 1.0), [0.5, 1.01], False),
        (Box((2,), 0.0, 1.0), [0.5, np.nan], False),
        (Box((2,)), [1e38, -1e38], True),
        (NESTED, [-1.0, 5.0], True),
        (NESTED, [-0.5, -0.5], False),  # each element has its own bounds
        (NESTED, [2.0, 2.0], False),
        (Box((), -1.0, 1.0), 0.3, True),
    ],
)
def test_contains(space, x, inside):
    found = jax.jit(space.contains)(jnp.array(x, space.dtype))
    assert found.shape == () and found.dtype == jnp.bool_
    assert bool(found) is inside


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (Box((3,), -2.0, 4.0), -2, 4),
        (Box(()), -1, 1),  # infinite bounds are drawn from as ±1
        (Box((2, 2), 0.0, INF), 0, 1),
        (NESTED, [-1, 0], [1, 5]),
    ],
)
def test_box_draws_are_uniform_between_the_bounds(space, low, high):
    draws = np.asarray(jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 4000)))
    assert draws.shape == (4000, *space.shape) and draws.dtype == space.dtype
    units = (draws - np.array(low)) / (np.array(high) - np.array(low))
    assert units.min() >= 0 and units.max() <= 1
    assert scipy.stats.kstest(units.ravel(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize(("dtype", "low", "high"), [("bool", 0, 1), ("bool", -INF, INF), ("uint8", 0, 3), ("int32", -1, 1)])
def test_draws_of_a_box_of_whole_numbers_are_uniform(dtype, low, high):
    space = Box((4000,), low, high, jnp.dtype(dtype))
    values, found = np.unique(space.sample(jax.random.key(0)), return_counts=True)
    assert len(values) == (2 if dtype == "bool" else high - low + 1)
    assert scipy.stats.chisquare(found).pvalue > 1e-4


def test_discrete_draws_are_uniform():
    draws = jax.vmap(Discrete(7).sample)(jax.random.split(jax.random.key(0), 7000))
    assert draws.shape == (7000,) and draws.dtype == jnp.int32
    assert scipy.stats.chisquare(np.bincount(draws, minlength=7)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("make", "other"),
    [(lambda: Discrete(3), Discrete(4)), (lambda: Box((2,), (0.0, 1.0), 2.0), Box((2,), (0.0, 1.5), 2.0))],
)
def test_spaces_are_equal_by_value_and_hashable(make, other):
    assert make() == make() and hash(make()) == hash(make())
    assert make() != other


@pytest.mark.parametrize(("space", "text"), [(Discrete(3), "Discrete(3)"), (Box((2, 5)), "Box(2, 5)")])
def test_str(space, text):
    assert str(space) == text


def test_multi_discrete_draws_each_integer_in_its_range():
    space = MultiDiscrete((2, 5))
    draws = np.asarray(jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 2000)))
    assert draws.dtype == np.int32 and draws.shape == (2000, 2)
    for column, size in zip(draws.T, space.sizes, strict=True):
        assert scipy.stats.chisquare(np.bincount(column, minlength=size)).pvalue > 1e-3
    assert bool(space.contains(jnp.array([1, 4]))) and not bool(space.contains(jnp.array([2, 0])))


@pytest.mark.parametrize(
    "space", [Product((Discrete(3), Box((2,), 0.0, 1.0))), Product.of(a=Discrete(3), b=Box((2,), 0.0, 1.0))]
)
def test_an_element_of_a_product_comes_apart_and_together(space):
    x = space.sample(jax.random.key(0))
    assert isinstance(x, dict if space.names else tuple)
    gear, throttle = space.parts(x)
    assert gear.dtype == jnp.int32 and throttle.shape == (2,)
    assert jax.tree.all(jax.tree.map(np.array_equal, space.join(space.parts(x)), x))
    assert bool(space.contains(x)) and not bool(space.contains(space.join([gear, throttle + 1])))
    assert {space: 1}[space] == 1  # hashable
