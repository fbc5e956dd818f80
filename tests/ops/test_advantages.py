"""GAE and V-trace of ops/returns.py against hand numbers, NumPy sums over the future, and each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.returns import gae, lambda_returns, vtrace

GAMMA, LAM = 0.5, 0.5
ENDS = np.array(list(itertools.product([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=4)), bool)  # every pattern of a rollout of 4
TERMINATED, TRUNCATED = ENDS[..., 0], ENDS[..., 1]

# Rewards 1, 2, 3; V = 2, 4, 6; V(next_obs) = 4, 6, 8; γ = λ = ½. δ = 1 + 2 - 2, 2 + 3 - 4, 3 + 4 - 6 = 1, 1, 1.
GAE = {
    "running": ([0, 0, 0], [0, 0, 0], [1.3125, 1.25, 1]),  # 1; 1 + ¼ · 1; 1 + ¼ · 1.25
    "terminated mid": ([0, 1, 0], [0, 0, 0], [0.5, -2, 1]),  # δ_1 = 2 - 4; 1 + ¼ · -2
    "terminated last": ([0, 0, 1], [0, 0, 0], [1.0625, 0.25, -3]),  # δ_2 = 3 - 6; 1 - ¾; 1 + 1/16
    "truncated mid": ([0, 0, 0], [0, 1, 0], [1.25, 1, 1]),  # δ as if running, but the sum stops: 1; 1 + ¼
    "truncated last": ([0, 0, 0], [0, 0, 1], [1.3125, 1.25, 1]),
    "both": ([0, 1, 0], [0, 1, 0], [0.5, -2, 1]),  # terminated decides
    "truncated first": ([0, 0, 0], [1, 0, 0], [1, 1.25, 1]),
}


@pytest.mark.parametrize(("terminated", "truncated", "expected"), GAE.values(), ids=GAE.keys())
def test_gae_by_hand(terminated, truncated, expected):
    arrays = (jnp.array(terminated, bool), jnp.array(truncated, bool), jnp.array([2.0, 4, 6]), jnp.array([4.0, 6, 8]))
    found = jax.jit(gae)(jnp.array([1.0, 2, 3]), GAMMA, LAM, *arrays)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def random_rollouts(count, length=4):
    """rewards, values, next_values [count, length]; the value of the next row is V(next_obs) where the episode goes on."""
    rewards, values, others = np.random.default_rng(0).normal(size=(3, count, length)).astype(np.float32)
    goes_on = ~(TERMINATED | TRUNCATED)
    goes_on[:, -1] = False
    return rewards, values, np.where(goes_on, np.roll(values, -1, 1), others)


def gae_forward(rewards, gamma, lam, terminated, truncated, values, next_values):
    """Σ_k (γλ)^k δ_{t+k}, up to where the episode ends."""
    total = np.zeros(len(rewards))
    for start in range(len(rewards)):
        for k, t in enumerate(range(start, len(rewards))):
            delta = rewards[t] + gamma * (0 if terminated[t] else next_values[t]) - values[t]
            total[start] += (gamma * lam) ** k * delta
            if terminated[t] or truncated[t]:
                break
    return total


@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
def test_gae_for_every_pattern_of_ends(lam):
    rewards, values, following = random_rollouts(len(ENDS))
    axes = (0, None, None, 0, 0, 0, 0)
    found = jax.vmap(gae, axes)(rewards, 0.9, jnp.float32(lam), TERMINATED, TRUNCATED, values, following)
    rows = zip(rewards, TERMINATED, TRUNCATED, values, following, strict=True)
    expected = [gae_forward(r, 0.9, lam, done, cut, v, n) for r, done, cut, v, n in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    returns = jax.vmap(lambda_returns, (0, None, None, 0, 0, 0))(rewards, 0.9, lam, TERMINATED, TRUNCATED, following)
    np.testing.assert_allclose(found + values, returns, rtol=1e-5, atol=1e-5)  # A + V is the λ-return


def vtrace_forward(log_rhos, rewards, gamma, lam, terminated, truncated, values, next_values, clip_rho, clip_c):
    """Equation 1 as it stands: v_s = V(s) + Σ_t γ^(t-s) (Π c_i) δ_t V, and the advantages of section 4.2."""
    rho = np.minimum(clip_rho, np.exp(log_rhos))
    c = lam * np.minimum(clip_c, np.exp(log_rhos))
    bootstrap = np.where(terminated, 0, next_values)
    delta = rho * (rewards + gamma * bootstrap - values)
    targets = values.astype(np.float64)
    length = len(rewards)
    for start in range(length):
        weight = 1.0
        for t in range(start, length):
            targets[start] += weight * delta[t]
            weight *= gamma * c[t]
            if terminated[t] or truncated[t]:
                break
    advantages = np.zeros(length)
    for t in range(length):
        cut = terminated[t] or truncated[t] or t == length - 1
        advantages[t] = rho[t] * (rewards[t] + gamma * (bootstrap[t] if cut else targets[t + 1]) - values[t])
    return targets, advantages


@pytest.mark.parametrize(("clip_rho", "clip_c", "lam"), [(1.0, 1.0, 1.0), (2.0, 0.7, 0.9), (0.5, 1.0, 0.0)])
def test_vtrace_for_every_pattern_of_ends(clip_rho, clip_c, lam):
    rewards, values, following = random_rollouts(len(ENDS))
    log_rhos = np.random.default_rng(1).normal(size=rewards.shape).astype(np.float32)
    axes = (0, 0, None, None, 0, 0, 0, 0, None, None)
    found = jax.vmap(vtrace, axes)(log_rhos, rewards, 0.9, lam, TERMINATED, TRUNCATED, values, following, clip_rho, clip_c)
    rows = zip(log_rhos, rewards, TERMINATED, TRUNCATED, values, following, strict=True)
    expected = [vtrace_forward(x, r, 0.9, lam, done, cut, v, n, clip_rho, clip_c) for x, r, done, cut, v, n in rows]
    np.testing.assert_allclose(found.targets, [e[0] for e in expected], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.advantages, [e[1] for e in expected], rtol=1e-4, atol=1e-5)


def test_vtrace_by_hand():
    """ρ = 2 clipped to 1, then ½; γ = 1, λ = 1. δ_1 = ½ (2 + 4 - 3) = 1.5, v_1 = 4.5; δ_0 = 1 + 3 - 2 = 2.

    v_0 = 2 + 2 + 1 · (4.5 - 3) = 5.5. Advantages: 1 + 4.5 - 2 = 3.5 and ½ (2 + 4 - 3) = 1.5.
    """
    none = jnp.zeros(2, bool)
    log_rhos = jnp.log(jnp.array([2.0, 0.5]))
    found = vtrace(log_rhos, jnp.array([1.0, 2.0]), 1.0, 1.0, none, none, jnp.array([2.0, 3.0]), jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(found.targets, [5.5, 4.5], rtol=1e-6)
    np.testing.assert_allclose(found.advantages, [3.5, 1.5], rtol=1e-6)


@pytest.mark.parametrize("lam", [0.3, 1.0])
def test_vtrace_on_policy_is_the_lambda_return(lam):
    """Remark 1 of the paper, for every pattern of ends."""
    rewards, values, following = random_rollouts(len(ENDS))
    axes = (0, 0, None, None, 0, 0, 0, 0)
    found = jax.vmap(vtrace, axes)(0 * rewards, rewards, 0.9, lam, TERMINATED, TRUNCATED, values, following)
    returns = jax.vmap(lambda_returns, (0, None, None, 0, 0, 0))(rewards, 0.9, lam, TERMINATED, TRUNCATED, following)
    np.testing.assert_allclose(found.targets, returns, rtol=1e-5, atol=1e-5)
