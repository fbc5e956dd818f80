"""envs/gymnax.py: CartPole against its published equations, ends told apart, spaces and dtypes."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces
from gymnax.environments.classic_control.cartpole import CartPole

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.envs.adapters import gymnax as adapter


def cart_pole_step(state, action):
    """One Euler step of 0.02 s of Barto, Sutton and Anderson 1983 (frictionless), in float64.

    g = 9.8, cart 1 kg, pole 0.1 kg of half-length 0.5 m, force ±10 N.
    """
    x, v, theta, omega = state
    force = 10.0 if action == 1 else -10.0
    sin, cos = np.sin(theta), np.cos(theta)
    push = (force + 0.1 * 0.5 * omega**2 * sin) / 1.1
    alpha = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    a = push - 0.1 * 0.5 * alpha * cos / 1.1
    return np.array([x + 0.02 * v, v + 0.02 * a, theta + 0.02 * omega, omega + 0.02 * alpha])


def test_cart_pole_follows_the_published_equations_for_50_steps():
    env = adapter.make("CartPole-v1")
    state, obs = env.reset(jax.random.key(0), env.params)
    assert np.abs(obs).max() <= 0.05
    expected = np.asarray(obs, np.float64)
    step = jax.jit(env.step)
    for _ in range(50):
        action = int(expected[2] + expected[3] > 0)  # push under the falling pole, so that it stays up
        expected = cart_pole_step(expected, action)
        state, out = step(jax.random.key(1), state, jnp.int32(action), env.params)
        np.testing.assert_allclose(out.obs, expected, rtol=1e-4, atol=1e-4)
        assert out[1:4] == (1.0, False, False)


@pytest.mark.parametrize(
    ("theta", "x", "time", "limit", "terminated", "truncated"),
    [
        (0.0, 0.0, 0, 3, False, False),
        (0.0, 0.0, 1, 3, False, False),
        (0.0, 0.0, 2, 3, False, True),  # the third step of three
        (0.3, 0.0, 0, 3, True, False),  # beyond 12° = 0.209
        (-0.3, 0.0, 0, 3, True, False),
        (0.0, 2.5, 0, 3, True, False),  # beyond 2.4 m
        (0.3, 0.0, 2, 3, True, True),
    ],
)
def test_terminated_and_truncated_are_told_apart(theta, x, time, limit, terminated, truncated):
    env = adapter.make("CartPole-v1")
    state, _ = env.reset(jax.random.key(0), env.params)
    zero = jnp.float32(0)
    state = state.replace(x=jnp.float32(x), x_dot=zero, theta=jnp.float32(theta), theta_dot=zero, time=jnp.int32(time))
    params = env.params.replace(max_steps_in_episode=jnp.int32(limit))
    _, out = env.step(jax.random.key(0), state, jnp.int32(0), params)
    assert (out.terminated, out.truncated) == (terminated, truncated)
    assert out.terminated.dtype == out.truncated.dtype == jnp.bool_


@pytest.mark.parametrize(
    ("env_id", "observation_space", "action_space", "storage"),
    [  # as each environment's documentation and source say
        ("CartPole-v1", (4,), Discrete(2), None),
        ("Pendulum-v1", (3,), Box((1,), -2.0, 2.0), None),
        ("Breakout-MinAtar", (10, 10, 4), Discrete(3), "bool"),
        ("FrozenLake-misc", Discrete(16), Discrete(4), None),
        ("Catch-bsuite", (10, 5), Discrete(3), None),
    ],
)
def test_spaces(env_id, observation_space, action_space, storage):
    spec = adapter.make(env_id).spec
    found = spec.observation_space if isinstance(spec.observation_space, Discrete) else spec.observation_space.shape
    assert (spec.id, found, spec.action_space, spec.storage_dtype) == (env_id, observation_space, action_space, storage)
    assert hash(spec) == hash(adapter.make(env_id).spec)


def test_an_instance_is_wrapped_as_its_id_is():
    assert adapter.wrap(CartPole()).spec == adapter.make("CartPole-v1").spec


def test_constructor_arguments_reach_the_environment():
    assert adapter.make("DeepSea-bsuite", size=5).spec.observation_space.shape == (5, 5)


def test_an_unsupported_space_is_refused():
    class Odd(CartPole):
        def action_space(self, params=None):
            return gymnax_spaces.Dict({"a": gymnax_spaces.Discrete(2)})

    with pytest.raises(InputError, match="takes Discrete and Box"):
        adapter.wrap(Odd())


def test_ids_are_the_registered_ones_less_the_downloads():
    assert set(adapter.ids()) == set(gymnax.registered_envs) - {"MNISTBandit-bsuite"}


def test_parameters_are_strongly_typed_arrays_of_the_defaults():
    params = adapter.make("CartPole-v1").params
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        assert isinstance(value, jax.Array) and not value.weak_type
        np.testing.assert_allclose(value, getattr(CartPole().default_params, field.name), rtol=1e-6)
