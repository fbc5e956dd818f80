"""replay/sum_tree.py and prioritized.py against NumPy's cumulative sums and a list of rows."""

from typing import NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from jaxrl.replay import prioritized, ring, sum_tree
from jaxrl.replay.prioritized import HIGHEST, LOWEST, OFFSET, importance_weights


class Row(NamedTuple):
    id: jax.Array
    valid: jax.Array


EXAMPLE = Row(jnp.int32(0), jnp.bool_(False))
assign, find = jax.jit(sum_tree.assign), jax.jit(sum_tree.find)


def tree_of(weights):
    weights = np.asarray(weights, np.float32)
    return assign(sum_tree.init(len(weights)), jnp.arange(len(weights)), jnp.array(weights))


@pytest.mark.parametrize(("size", "levels"), [(1, [16]), (16, [16]), (17, [32, 16]), (300, [304, 32, 16])])
def test_shape(size, levels):
    assert [len(level) for level in sum_tree.init(size)] == levels


def test_find_by_hand():
    """Weights 1, 0, 2, 1: running sums 1, 1, 3, 4."""
    tree = tree_of([1, 0, 2, 1])
    assert float(sum_tree.total(tree)) == 4
    np.testing.assert_array_equal(find(tree, jnp.array([0.0, 0.9, 1.0, 2.9, 3.0, 3.9])), [0, 0, 2, 2, 3, 3])


SIZE = 700  # three levels
extreme = st.sampled_from([0.0, 1e-20, 1e-6, 0.5, 1.0, 3.0, 1e10, 1e30])


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    weights=st.lists(extreme, min_size=1, max_size=20),
    places=st.integers(0, 2**31 - 1),
    shares=st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=8, max_size=8),
)
def test_zero_huge_and_equal_weights(weights, places, shares):
    """What is found weighs more than 0, and the exact running sum around it holds the mass, up to float32's rounding."""
    where = np.random.default_rng(places).choice(SIZE, len(weights), replace=False)
    exact = np.zeros(SIZE)
    exact[where] = np.float32(weights)
    tree = assign(sum_tree.init(SIZE), jnp.array(where), jnp.array(weights, jnp.float32))
    total = float(sum_tree.total(tree))
    np.testing.assert_allclose(total, exact.sum(), rtol=1e-5)
    mass = np.float32(shares) * np.float32(total)
    found = np.asarray(find(tree, jnp.array(mass)))
    if not exact.any():
        return
    assert (exact[found] > 0).all()
    upto, slack = np.cumsum(exact), 1e-5 * total
    assert (upto[found] >= mass - slack).all() and (upto[found] - exact[found] <= mass + slack).all()


@hypothesis.settings(max_examples=10, deadline=None, derandomize=True, database=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1))
def test_many_changes_leave_exact_sums(seed):
    """Sums equal those of the leaves, whatever was written before, also with equal indices in one call."""
    rng = np.random.default_rng(seed)
    tree, model = sum_tree.init(SIZE), np.zeros(SIZE, np.float32)
    for _ in range(5):
        index = rng.integers(0, SIZE, 32)
        weight = (index % 7).astype(np.float32) * np.float32(rng.uniform())
        tree, model[index] = assign(tree, jnp.array(index), jnp.array(weight)), weight
    np.testing.assert_array_equal(tree[0][:SIZE], model)
    np.testing.assert_allclose(tree[1][: SIZE // 16], model[: SIZE // 16 * 16].reshape(-1, 16).sum(1), rtol=1e-5)
    np.testing.assert_allclose(sum_tree.total(tree), model.sum(dtype=np.float64), rtol=1e-5)


def test_draws_are_in_proportion():
    weights = np.random.default_rng(0).integers(0, 5, 300)
    shares = (np.arange(200_000) + 0.5) / 200_000
    found = np.bincount(find(tree_of(weights), jnp.array(shares * weights.sum(), jnp.float32)), minlength=300)
    np.testing.assert_allclose(found / 200_000, weights / weights.sum(), atol=2e-5)


def pushed(sampler, replay, priorities, times, length, num_envs, first):
    for i in range(times):
        ids = first + i * length * num_envs + np.arange(length * num_envs, dtype=np.int32)
        replay = ring.push(replay, Row(ids.reshape(length, num_envs), np.ones((length, num_envs), bool)))
        priorities = sampler.insert(priorities, replay)
    return replay, priorities


@pytest.mark.parametrize(
    ("capacity", "num_envs", "length", "n"), [(8, 1, 1, 1), (12, 2, 1, 3), (36, 2, 3, 4), (24, 3, 4, 1)]
)
@pytest.mark.parametrize("pushes", [1, 2, 3, 5, 6, 11])
def test_only_slots_with_n_stored_steps_have_weight(capacity, num_envs, length, n, pushes):
    sampler = prioritized.sampler(16, n, length)
    replay = ring.init(EXAMPLE, capacity, num_envs, length, n)
    replay, priorities = pushed(sampler, replay, sampler.init(replay), pushes, length, num_envs, 0)
    rows, written = replay.shape[0], pushes * length
    weights = np.asarray(priorities.tree[0])[: rows * num_envs].reshape(rows, num_envs)
    for row in range(rows):
        time = max((t for t in range(written) if t % rows == row), default=None)
        complete = time is not None and time >= written - rows and time <= written - n
        np.testing.assert_array_equal(weights[row], float(complete), err_msg=f"row {row}")


def test_priorities_by_hand():
    """α = ½. After TD errors 3 and 8 (sum of roots √3 + √8), a new transition takes the highest, √8."""
    sampler = prioritized.sampler(4, 1, 1)
    replay = ring.init(EXAMPLE, 8, 1, 1)
    replay, priorities = pushed(sampler, replay, sampler.init(replay), 2, 1, 1, 0)
    np.testing.assert_array_equal(priorities.tree[0][:3], [1, 1, 0])
    errors, always = jnp.array([3.0, 8.0]), jnp.bool_(True)
    unchanged = sampler.update(priorities, jnp.array([0, 1]), errors, 0.5, ~always)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), unchanged, priorities))
    priorities = sampler.update(priorities, jnp.array([0, 1]), errors, 0.5, always)
    replay, priorities = pushed(sampler, replay, priorities, 1, 1, 1, 2)
    expected = np.sqrt([3 + OFFSET, 8 + OFFSET, 8 + OFFSET])
    np.testing.assert_allclose(priorities.tree[0][:3], expected, rtol=1e-6)
    slots, relative = sampler.sample(priorities, replay, jax.random.key(0))
    np.testing.assert_allclose(relative, 3 * (expected / expected.sum())[slots], rtol=1e-5)


@pytest.mark.parametrize(("priority", "weight"), [(0.0, OFFSET), (np.inf, HIGHEST), (np.nan, HIGHEST), (1e38, HIGHEST)])
def test_no_error_can_break_the_tree(priority, weight):
    sampler = prioritized.sampler(2, 1, 1)
    replay = ring.init(EXAMPLE, 8, 1, 1)
    replay, priorities = pushed(sampler, replay, sampler.init(replay), 8, 1, 1, 0)
    priorities = sampler.update(priorities, jnp.array([3]), jnp.float32([priority]), 1.0, jnp.bool_(True))
    np.testing.assert_allclose(priorities.tree[0][3], weight, rtol=1e-6)
    assert np.isfinite(float(sum_tree.total(priorities.tree)))
    low = sampler.update(priorities, jnp.array([3]), jnp.float32([0.0]), 9.0, jnp.bool_(True))
    np.testing.assert_allclose(low.tree[0][3], LOWEST, rtol=1e-6)


def test_an_error_rounded_below_zero_is_none():
    """KL of a distribution from itself may come out as -3e-6: its root is no number, its weight the offset's."""
    sampler = prioritized.sampler(2, 1, 1)
    replay = ring.init(EXAMPLE, 8, 1, 1)
    replay, priorities = pushed(sampler, replay, sampler.init(replay), 8, 1, 1, 0)
    priorities = sampler.update(priorities, jnp.array([3]), jnp.float32([-3e-6]), 0.5, jnp.bool_(True))
    np.testing.assert_allclose(priorities.tree[0][3], OFFSET**0.5, rtol=1e-6)
    assert float(priorities.highest) == 1


def test_an_invalid_row_is_never_drawn():
    sampler = prioritized.sampler(64, 1, 1)
    replay = ring.init(EXAMPLE, 8, 2, 1)
    priorities = sampler.init(replay)
    for valid in ([True, False], [False, True]):
        replay = ring.push(replay, Row(np.arange(2)[None], np.array([valid])))
        priorities = sampler.insert(priorities, replay)
    slots, _ = sampler.sample(priorities, replay, jax.random.key(0))
    assert set(slots.tolist()) == {0, 3}
    priorities = sampler.update(priorities, jnp.array([1]), jnp.float32([5.0]), 1.0, jnp.bool_(True))
    assert float(priorities.tree[0][1]) == 0


def test_draws_follow_priorities_by_chi_square():
    errors = np.arange(1.0, 11)
    sampler = prioritized.sampler(1000, 1, 1)
    replay = ring.init(EXAMPLE, 10, 1, 1)
    replay, priorities = pushed(sampler, replay, sampler.init(replay), 10, 1, 1, 0)
    priorities = sampler.update(priorities, jnp.arange(10), jnp.array(errors, jnp.float32), 0.7, jnp.bool_(True))
    draw = jax.jit(lambda key: sampler.sample(priorities, replay, key)[0])
    found = np.bincount(np.concatenate([draw(jax.random.key(k)) for k in range(30)]), minlength=10)
    expected = (errors + OFFSET) ** 0.7
    assert scipy.stats.chisquare(found, 30_000 * expected / expected.sum()).pvalue > 1e-4


def test_importance_weights_by_hand():
    """size · P = ½, 1, 2: with β = 1, 2, 1, ½ over 2; with β = ½, √2, 1, 1/√2 over √2; with β = 0 all 1."""
    relative = jnp.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(importance_weights(relative, 1.0), [1, 0.5, 0.25])
    np.testing.assert_allclose(importance_weights(relative, 0.5), [1, 2**-0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(importance_weights(relative, 0.0), [1, 1, 1])
    np.testing.assert_array_equal(importance_weights(jnp.ones(3), 0.4), [1, 1, 1])  # exactly: uniform draws are left alone
