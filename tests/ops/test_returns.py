"""ops/returns.py against hand-worked numbers and a NumPy sum over future rewards."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.returns import discounted_returns, lambda_returns, n_step_return, td_target


@pytest.mark.parametrize(
    ("reward", "gamma", "terminated", "next_value", "expected"),
    [
        (1.0, 0.9, False, 2.0, 2.8),  # 1 + 0.9 · 2
        (1.0, 0.9, True, 2.0, 1.0),  # nothing follows a terminal state
        (-3.0, 0.5, False, -4.0, -5.0),  # -3 + 0.5 · -4
        (2.0, 0.0, False, 7.0, 2.0),
        (0.0, 1.0, False, 7.0, 7.0),
        (1.0, 0.9, True, np.nan, 1.0),  # a terminal observation's value is not even read
    ],
)
def test_td_target(reward, gamma, terminated, next_value, expected):
    target = td_target(jnp.float32(reward), jnp.float32(gamma), jnp.bool_(terminated), jnp.float32(next_value))
    assert target.shape == () and target.dtype == jnp.float32
    np.testing.assert_allclose(target, expected, rtol=1e-6)


def returns(rewards, gamma, terminated, truncated, next_values):
    arrays = (jnp.array(rewards, jnp.float32), jnp.float32(gamma), jnp.array(terminated, bool), jnp.array(truncated, bool))
    return jax.jit(discounted_returns)(*arrays, jnp.array(next_values, jnp.float32))


HAND = {
    # Cut by the rollout's end: 3 + 0.5 · 8 = 7; 2 + 0.5 · 7 = 5.5; 1 + 0.5 · 5.5 = 3.75
    "running": ([1, 2, 3], [0, 0, 0], [0, 0, 0], [10, 20, 8], [3.75, 5.5, 7]),
    # Terminated at the last step: 3; 2 + 1.5 = 3.5; 1 + 1.75 = 2.75
    "terminated last": ([1, 2, 3], [0, 0, 1], [0, 0, 0], [10, 20, 8], [2.75, 3.5, 3]),
    # Terminated in the middle: 3 + 4 = 7; 2; 1 + 1 = 2
    "terminated mid": ([1, 2, 3], [0, 1, 0], [0, 0, 0], [10, 20, 8], [2, 2, 7]),
    # Truncated in the middle: 3 + 4 = 7; 2 + 0.5 · 20 = 12; 1 + 6 = 7
    "truncated mid": ([1, 2, 3], [0, 0, 0], [0, 1, 0], [10, 20, 8], [7, 12, 7]),
    # Truncated at the last step: as if still running
    "truncated last": ([1, 2, 3], [0, 0, 0], [0, 0, 1], [10, 20, 8], [3.75, 5.5, 7]),
    # Both at once: terminated decides
    "both": ([1, 2, 3], [0, 1, 1], [0, 1, 1], [10, 20, 8], [2, 2, 3]),
    # Truncated at the first step: 1 + 0.5 · 10 = 6
    "truncated first": ([1, 2, 3], [0, 0, 0], [1, 0, 0], [10, 20, 8], [6, 5.5, 7]),
    "one step": ([4], [0], [0], [6], [7]),
    "one terminal step": ([4], [1], [0], [6], [4]),
}


@pytest.mark.parametrize(("rewards", "terminated", "truncated", "next_values", "expected"), HAND.values(), ids=HAND.keys())
def test_discounted_returns_by_hand(rewards, terminated, truncated, next_values, expected):
    result = returns(rewards, 0.5, terminated, truncated, next_values)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def summed_forward(rewards, gamma, terminated, truncated, next_values):
    """From every step on: add discounted rewards up to where the episode or the rollout ends."""
    total = np.zeros(len(rewards))
    for start in range(len(rewards)):
        discount = 1.0
        for t in range(start, len(rewards)):
            total[start] += discount * rewards[t]
            discount *= gamma
            if terminated[t]:
                break
            if truncated[t] or t == len(rewards) - 1:
                total[start] += discount * next_values[t]
                break
    return total


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_discounted_returns_for_every_pattern_of_ends(gamma):
    """All 4⁴ ways in which the steps of a rollout of 4 are terminated, truncated, both or neither."""
    rng = np.random.default_rng(0)
    ends = np.array(list(itertools.product([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=4)), bool)
    terminated, truncated = ends[..., 0], ends[..., 1]
    rewards, values = rng.normal(size=(2, *terminated.shape)).astype(np.float32)
    result = jax.vmap(discounted_returns, (0, None, 0, 0, 0))(rewards, jnp.float32(gamma), terminated, truncated, values)
    rows = zip(rewards, terminated, truncated, values, strict=True)
    expected = [summed_forward(r, gamma, done, cut, v) for r, done, cut, v in rows]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_discounted_returns_of_long_rollouts(seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, 200)).astype(np.float32)
    terminated, truncated = rng.random((2, 200)) < 0.05
    result = returns(rewards, 0.97, terminated, truncated, values)
    np.testing.assert_allclose(result, summed_forward(rewards, 0.97, terminated, truncated, values), rtol=1e-4, atol=1e-4)


def test_unused_next_values_are_not_read():
    """NaN where an episode ended or goes on within the rollout: 1 + 0.5 · 2 = 2; 2; 3 + 0.5 · 8 = 7."""
    result = returns([1, 2, 3], 0.5, [0, 1, 0], [0, 0, 0], [np.nan, np.nan, 8])
    np.testing.assert_allclose(result, [2, 2, 7], rtol=1e-6)


N_STEP = {
    # γ = ½. Goes on: 1 + ½ · 2 + ¼ · 4 = 3, then ⅛ V(next_obs[2])
    "running": ([0, 0, 0], [0, 0, 0], 3.0, 0.125, 2),
    "terminated first": ([1, 0, 0], [0, 0, 0], 1.0, 0.0, 0),
    "terminated mid": ([0, 1, 0], [0, 0, 0], 2.0, 0.0, 1),
    "terminated last": ([0, 0, 1], [0, 0, 0], 3.0, 0.0, 2),
    "truncated first": ([0, 0, 0], [1, 0, 0], 1.0, 0.5, 0),
    "truncated mid": ([0, 0, 0], [0, 1, 0], 2.0, 0.25, 1),
    "truncated last": ([0, 0, 0], [0, 0, 1], 3.0, 0.125, 2),
    "both": ([0, 1, 0], [0, 1, 0], 2.0, 0.0, 1),
    "an end after the end": ([0, 0, 1], [0, 1, 0], 2.0, 0.25, 1),
}


@pytest.mark.parametrize(("terminated", "truncated", "ret", "discount", "last"), N_STEP.values(), ids=N_STEP.keys())
def test_n_step_return_by_hand(terminated, truncated, ret, discount, last):
    rewards = jnp.array([1.0, 2.0, 4.0])
    found = n_step_return(rewards, jnp.float32(0.5), jnp.array(terminated, bool), jnp.array(truncated, bool))
    np.testing.assert_allclose(found, (ret, discount, last), rtol=1e-6)
    assert [x.dtype for x in found] == [jnp.float32, jnp.float32, jnp.int32]


def test_one_step_return_is_the_td_target():
    for terminated in (False, True):
        n = n_step_return(jnp.array([2.0]), jnp.float32(0.9), jnp.array([terminated]), jnp.array([False]))
        assert n.ret + n.discount * 3.0 == td_target(jnp.float32(2), jnp.float32(0.9), jnp.bool_(terminated), jnp.float32(3))


def test_lambda_returns_by_hand():
    """γ = λ = ½, V(next) = 10, 20, 8. t = 2 (rollout's end): 3 + ½ · 8 = 7. t = 1: 2 + ½ (½ · 20 + ½ · 7) = 8.75.

    t = 0: 1 + ½ (½ · 10 + ½ · 8.75) = 5.6875. Truncated at t = 1: 2 + ½ · 20 = 12, and 1 + ½ (5 + 6) = 6.5.
    """
    none = jnp.zeros(3, bool)
    args = (jnp.array([1.0, 2.0, 3.0]), jnp.float32(0.5), jnp.float32(0.5))
    values = jnp.array([10.0, 20.0, 8.0])
    np.testing.assert_allclose(lambda_returns(*args, none, none, values), [5.6875, 8.75, 7.0])
    np.testing.assert_allclose(lambda_returns(*args, none, none.at[1].set(True), values), [6.5, 12.0, 7.0])
    np.testing.assert_allclose(lambda_returns(*args, none.at[1].set(True), none, values), [4.0, 2.0, 7.0])


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.9, 1.0])
def test_lambda_returns_are_the_mixture_of_n_step_returns(lam):
    """G^λ = (1 - λ) Σ_n λ^(n-1) G^(n) + λ^(last-1) G^(last) (S&B, equation 12.3), for every pattern of ends."""
    rng = np.random.default_rng(1)
    ends = np.array(list(itertools.product([(0, 0), (0, 1), (1, 0)], repeat=4)), bool)
    gamma, compiled = 0.9, jax.jit(lambda_returns)
    for terminated, truncated in zip(ends[..., 0], ends[..., 1], strict=True):
        rewards, values = rng.normal(size=(2, 4)).astype(np.float32)
        found = np.asarray(compiled(rewards, gamma, lam, terminated, truncated, values))
        for start in range(4):
            ended = np.flatnonzero((terminated | truncated)[start:])
            length = ended[0] + 1 if ended.size else 4 - start
            n_step = []
            for n in range(1, length + 1):
                at = start + n - 1
                ret = sum(gamma**k * rewards[start + k] for k in range(n))
                n_step.append(ret + gamma**n * values[at] * (not terminated[at]))
            mixture = (1 - lam) * sum(lam ** (n - 1) * g for n, g in enumerate(n_step[:-1], 1))
            np.testing.assert_allclose(found[start], mixture + lam ** (length - 1) * n_step[-1], rtol=1e-4, atol=1e-5)
