"""agents/q_learning.py: the table against a NumPy loop, and against value iteration where it converges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from benchmarks.oracles import frozen_lake_q, random_game_q
from jaxrl.agents import q_learning
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_learn_equals_a_loop_over_transitions(decay):
    """Time first, then environments in turn; several environments often sit on one pair, and must not add up."""
    t, n, states, actions, gamma, alpha = 40, 5, 4, 3, 0.9, 0.5
    rng = np.random.default_rng(0)
    s, after = rng.integers(0, states, (2, t, n))
    a = rng.integers(0, actions, (t, n))
    r = rng.normal(size=(t, n)).astype(np.float32)
    terminated, truncated, valid = rng.random((3, t, n)) < np.array([0.2, 0.2, 0.9])[:, None, None]
    q, visits = np.full((states, actions), 2.0), np.zeros((states, actions), int)
    for i in range(t):
        for j in range(n):
            if valid[i, j]:
                at = s[i, j], a[i, j]
                visits[at] += 1
                target = r[i, j] + gamma * (0 if terminated[i, j] else q[after[i, j]].max())
                q[at] += alpha * visits[at] ** -decay * (target - q[at])
    agent = q_learning.make(EnvSpec("MDP", Discrete(states), Discrete(actions)), q_learning.Config(num_envs=n))
    hp = q_learning.HParams(learning_rate=alpha, learning_rate_decay=decay, gamma=gamma, initial_value=2.0)
    steps = Transition(*map(jnp.array, (s, s < 0, a, r, terminated, truncated, after)), (), jnp.array(valid))
    state = agent.init(jax.random.key(0), hp)
    clock = Clock(jnp.int32(0), jnp.float32(0))
    state, _ = jax.jit(agent.learn)(hp, state, Rollout(steps, ()), clock, jax.random.key(0))
    np.testing.assert_allclose(state.q, q, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state.visits, visits)


def test_random_game_reaches_the_closed_form():
    trainer = jaxrl.make_trainer("q_learning", "RandomGame", total_steps=50_000)
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    np.testing.assert_allclose(state.agent.q, random_game_q(0.9, 10, 3), atol=0.02)


def test_frozen_lake_without_slipping_reaches_value_iteration():
    settings = {"learning_rate": 0.5, "learning_rate_decay": 0.0, "gamma": 0.99}
    trainer = jaxrl.make_trainer(
        "q_learning", "FrozenLake-misc", total_steps=200_000, hparams=settings, env_kwargs={"is_slippery": False}
    )
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    np.testing.assert_allclose(state.agent.q, frozen_lake_q(0.99, slippery=False), atol=0.02)
    assert float(jaxrl.evaluate(trainer, state, jax.random.key(1), 8).returns.mean()) == 1.0


def test_value_iteration_oracle_on_a_chain():
    """Without slipping the goal is 6 steps from the start: V(start) = γ⁵."""
    q = frozen_lake_q(0.9, slippery=False)
    np.testing.assert_allclose([q[0].max(), q[14, 2], q[0, 0]], [0.9**5, 1.0, 0.9**6])
