"""envs/random_game.py: dynamics by hand, and its values by value iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.envs.random_game import Params, State, make


@pytest.mark.parametrize(
    ("value", "time", "action", "following", "reward", "terminated", "truncated"),
    [
        (3, 0, 0, 3, 1.0, False, False),
        (3, 0, 2, 5, 1.0, False, False),
        (3, 0, 1, 4, 0.0, True, False),  # an even sum ends the game
        (9, 0, 2, 1, 1.0, False, False),  # 11 wraps at 10
        (9, 0, 1, 0, 0.0, True, False),
        (3, 6, 2, 5, 1.0, False, True),  # the seventh step of seven
        (3, 6, 1, 4, 0.0, True, True),
        (3, 5, 2, 5, 1.0, False, False),
    ],
)
def test_step(value, time, action, following, reward, terminated, truncated):
    state = State(jnp.int32(value), jnp.int32(time))
    after, out = make().step(jax.random.key(0), state, jnp.int32(action), Params(jnp.int32(7)))
    assert after == (following, time + 1)
    assert out[:4] == (following, reward, terminated, truncated)


def test_reset_is_uniform_over_the_states():
    keys = jax.random.split(jax.random.key(0), 6000)
    env = make(num_states=6)
    state, obs = jax.vmap(env.reset, (0, None))(keys, env.params)
    np.testing.assert_array_equal(state.value, obs)
    np.testing.assert_array_equal(state.time, 0)
    # 6000 draws of 6: 1000 each, with standard deviation √(6000 · 1/6 · 5/6) = 28.9
    np.testing.assert_allclose(np.bincount(obs, minlength=6), 1000, atol=5 * 28.9)


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"num_states": 7}, "num_states = 7"),
        ({"num_states": 0}, "num_states = 0"),
        ({"num_states": -2}, "num_states = -2"),
        ({"num_actions": 1}, "num_actions = 1"),
    ],
)
def test_a_game_that_cannot_be_is_refused(kwargs, named):
    with pytest.raises(InputError, match=named):
        make(**kwargs)


@pytest.mark.parametrize(("num_states", "num_actions", "gamma"), [(10, 3, 0.9), (4, 2, 0.5), (2, 5, 0.8)])
def test_the_values_it_states_are_those_of_value_iteration(num_states, num_actions, gamma):
    """Q(s, a) = 1 / (1 - γ) where s + a is odd, else 0."""
    env = make(num_states, num_actions)
    s, a = np.divmod(np.arange(num_states * num_actions), num_actions)
    states = State(jnp.array(s), jnp.zeros(len(s), jnp.int32))
    keys = jax.random.split(jax.random.key(0), len(s))
    _, out = jax.device_get(jax.vmap(env.step, (0, 0, 0, None))(keys, states, jnp.array(a), env.params))
    q = np.zeros((num_states, num_actions))
    for _ in range(300):  # γ³⁰⁰ < 1e-13
        q = (out.reward + gamma * ~out.terminated * q.max(1)[out.obs]).reshape(q.shape)
    np.testing.assert_allclose(q, np.where((s + a) % 2, 1 / (1 - gamma), 0).reshape(q.shape), atol=1e-9)
