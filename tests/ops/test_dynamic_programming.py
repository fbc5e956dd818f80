"""ops/dynamic_programming.py: against value iteration in float64 and the linear equations of a policy, solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import oracles
from jaxrl.ops.dynamic_programming import policy_evaluation, value_iteration

STATES, ACTIONS = 6, 3


def process(seed, mass=1.0):
    """A dense random process whose rows sum to `mass`, rewards, and a random policy."""
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(STATES), (STATES, ACTIONS)) * mass
    return probability, rng.normal(size=(STATES, ACTIONS)), rng.dirichlet(np.ones(ACTIONS), STATES)


# Missing mass ends the episode: with 10 % of it, values are finite without a discount.
@pytest.mark.parametrize(("gamma", "mass"), [(0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.95, 0.8), (1.0, 0.9)])
def test_against_numpy(gamma, mass):
    probability, reward, policy = process(1, mass)
    found = jax.jit(value_iteration)(jnp.float32(probability), jnp.float32(reward), gamma)
    np.testing.assert_allclose(found, oracles.value_iteration(probability, reward, gamma), atol=1e-4)
    found = jax.jit(policy_evaluation)(jnp.float32(probability), jnp.float32(reward), jnp.float32(policy), gamma)
    np.testing.assert_allclose(found, oracles.policy_evaluation(probability, reward, policy, gamma), atol=1e-4)


def test_many_processes_at_once_each_with_its_discount():
    probability, reward, policy = map(np.stack, zip(*map(process, range(5)), strict=True))
    gamma = np.linspace(0.1, 0.97, 5)
    p, r, pi, g = map(jnp.float32, (probability, reward, policy, gamma))
    optimal, evaluated = jax.jit(jax.vmap(value_iteration))(p, r, g), jax.jit(jax.vmap(policy_evaluation))(p, r, pi, g)
    for i in range(5):
        np.testing.assert_allclose(optimal[i], oracles.value_iteration(probability[i], reward[i], gamma[i]), atol=1e-3)
        np.testing.assert_allclose(
            evaluated[i], oracles.policy_evaluation(probability[i], reward[i], policy[i], gamma[i]), atol=1e-3
        )
    text = jax.jit(jax.vmap(value_iteration)).lower(p, r, g).as_text().lower()
    assert "lapack" not in text and "getrf" not in text


def test_tolerance_is_the_last_change():
    """One state that pays 1 for ever: sweep k adds γ^(k - 1), and the first of at most 0.1 is 0.5⁴, the fifth."""
    q = value_iteration(jnp.ones((1, 1, 1)), jnp.ones((1, 1)), 0.5, tolerance=0.1)
    np.testing.assert_allclose(q, [[1 + 0.5 + 0.25 + 0.125 + 0.0625]])


def test_the_greedy_policys_values_are_the_optimal_ones():
    probability, reward, _ = process(3)
    optimal = oracles.value_iteration(probability, reward, 0.9)
    policy = np.eye(ACTIONS)[optimal.argmax(-1)]
    found = policy_evaluation(jnp.float32(probability), jnp.float32(reward), jnp.float32(policy), 0.9)
    np.testing.assert_allclose(found, optimal, atol=1e-4)


def test_blackjack_is_the_books():
    """Sutton & Barto, 2nd ed., figure 5.2: the sum from which to stick, for each card of the dealer's, ace first."""
    stick, hit = np.moveaxis(oracles.blackjack_q().reshape(32, 11, 2, 2), -1, 0)
    best = stick > hit
    first = [[next(total for total in range(12, 22) if best[total, card, ace]) for card in range(1, 11)] for ace in (0, 1)]
    assert first[0] == [17, 13, 13, 12, 12, 12, 17, 17, 17, 17]
    assert first[1] == [19, 18, 18, 18, 18, 18, 18, 18, 19, 19]
    # A dealer who shows a six goes bust with 42 %, with an ace 12 %: at less than 17 sticking wins only then.
    np.testing.assert_allclose(stick[12, [6, 1], 0], [2 * 0.4236 - 1, 2 * 0.1151 - 1], atol=2e-3)
