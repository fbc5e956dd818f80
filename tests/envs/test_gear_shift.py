"""envs/gear_shift.py: dynamics by hand, and how much both parts of an action matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.vectorize import vectorize
from jaxrl.envs.gear_shift import State, drive, make
from jaxrl.experiment import registry

THROTTLES = np.linspace(0, 1, 41)
EPISODES = 512


def act(gear, throttle):
    return {"gear": jnp.int32(gear), "throttle": jnp.float32([throttle])}


@pytest.mark.parametrize(
    ("num_gears", "speed", "gear", "throttle", "following"),
    [
        (4, 0.0, 0, 1.0, 0.02),  # from rest: torque 0.2, push 1 · 0.2
        (4, 0.0, 3, 1.0, 0.005),  # the highest gear is a quarter as strong
        (4, 0.0, 0, 0.0, 0.0),
        (4, 0.75, 3, 0.5, 0.75),  # revs 1/2, torque 1: push (0.5 - 0.5 · 0.5 · 0.5) / 4 is the drag, 0.125 · 0.75
        (4, 0.75, 3, 1.0, 0.765625),  # push 1/4
        (4, 0.75, 0, 1.0, 0.740625),  # twice the gear's top speed: no torque; at full throttle no brake but the drag
        (4, 0.75, 0, 0.0, 0.640625),  # the engine brakes: push -0.5 · 2
        (4, 0.75, 3, 3.0, 0.765625),  # clipped to 1
        (4, 0.75, 0, -1.0, 0.640625),  # clipped to 0
        (2, 0.375, 0, 1.0, 0.4203125),  # top speed 0.75, torque 1, push 1/2 · 1
        (12, 0.125, 0, 0.0, 0.0),  # push -3 · 0.5: a step would end below rest, at -0.0265625
    ],
)
def test_step(num_gears, speed, gear, throttle, following):
    env = make(num_gears)
    params = env.params._replace(change_probability=jnp.float32(0))
    state = State(jnp.float32(speed), jnp.float32(following), jnp.int32(7))
    after, out = env.step(jax.random.key(0), state, act(gear, throttle), params)
    np.testing.assert_allclose(after, [following, following, 8], atol=1e-6)
    np.testing.assert_allclose(out.obs, 2 * following - 1, atol=1e-6)
    np.testing.assert_allclose(out.reward, 1 - 0.3 * np.clip(throttle, 0, 1), atol=1e-5)  # on target
    assert (bool(out.terminated), bool(out.truncated)) == (False, False)


@pytest.mark.parametrize(("target", "near"), [(0.75, 1.0), (0.81, 0.6), (0.72, 0.8), (0.91, 0.0), (0.1, 0.0)])
def test_reward_falls_from_the_target_on_to_nothing_at_the_tolerance(target, near):
    env = make()
    state = State(jnp.float32(0.75), jnp.float32(target), jnp.int32(0))
    _, out = env.step(jax.random.key(0), state, act(3, 0.5), env.params)  # keeps the speed
    np.testing.assert_allclose(out.reward, near - 0.15, atol=1e-5)


def test_targets_are_uniform_and_change_with_their_probability():
    env = make()
    keys = jax.random.split(jax.random.key(0), 20_000)
    state, obs = jax.jit(jax.vmap(env.reset, (0, None)))(keys, env.params)
    assert scipy.stats.kstest((state.target - 0.1) / 0.9, "uniform").pvalue > 1e-4
    np.testing.assert_allclose(obs, np.stack([np.full(20_000, -1), 2 * state.target - 1], -1), atol=1e-6)
    after, _ = jax.jit(jax.vmap(env.step, (0, 0, None, None)))(keys, state, act(0, 0), env.params)
    changed = np.asarray(after.target != state.target)
    np.testing.assert_allclose(changed.mean(), 0.04, atol=5 * np.sqrt(0.04 / 20_000))
    assert scipy.stats.kstest((after.target[changed] - 0.1) / 0.9, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("num_gears", [2, 4, 12])
def test_no_speed_leaves_the_observation_space(num_gears):
    space = make(num_gears).spec.observation_space
    v, x, u = np.meshgrid(np.linspace(0, 1.5, 301), np.arange(num_gears), THROTTLES)
    found = np.asarray(drive(jnp.float32(v), jnp.int32(x), jnp.float32(u), num_gears))
    assert found.min() >= 0 and 2 * found.max() - 1 <= space.high


def test_actions_are_a_gear_and_a_throttle():
    env = registry.find_env("GearShift", {"num_gears": 5})
    assert env.spec.action_space.names == ("gear", "throttle")
    assert env.spec.action_space.spaces == (Discrete(5), Box((1,), 0.0, 1.0))
    with pytest.raises(InputError, match="num_gears = 1"):
        make(1)


def mean_return(policy):
    """Mean return of `policy(key, state [N]) -> action [N]` over the first, and only, 100 steps of 512 episodes."""
    env = make()
    vec = vectorize(env, EPISODES)

    def one(carry, key):
        act_key, env_key = jax.random.split(key)
        state, pool = carry
        state, _, pool, out = vec.step(jax.random.split(env_key, EPISODES), state, pool, policy(act_key, state), env.params)
        return (state, pool), out.reward

    state, _ = vec.init(jax.random.key(1), env.params)
    start = state, vec.prepare(jax.random.key(2), env.params)
    return jax.lax.scan(one, start, jax.random.split(jax.random.key(3), 100))[1].sum(0).mean()


def nearest(allowed):
    """The policy that looks a step ahead: of the `allowed` actions, bool [gears, throttles], the one that comes nearest to
    the target, and of those the one with the least throttle.
    """
    x, u = jnp.meshgrid(jnp.arange(4), jnp.float32(THROTTLES), indexing="ij")

    def choose(state):
        distance = jnp.abs(drive(state.speed, x, u, 4) - state.target) + 1e-3 * u
        best = jnp.where(allowed, distance, jnp.inf).argmin()
        return {"gear": x.ravel()[best], "throttle": u.ravel()[best, None]}

    return lambda key, state: jax.vmap(choose)(state)


def test_both_parts_of_an_action_matter():
    """Found: 62; with one gear at most 37; with one throttle at most 28.

    The best possible, by dynamic programming on a grid of 1501 speeds, 24 targets and 61 throttles: 62; with one gear 26,
    39, 30 or 10; with one throttle 28 (0.7 or 0.8).
    """
    everything = np.ones((4, 41), bool)
    one_gear = np.eye(4, dtype=bool)[:, :, None] & everything
    one_throttle = np.eye(41, dtype=bool)[::4, None] & everything
    allowed = jnp.asarray(np.concatenate([everything[None], one_gear, one_throttle]))
    both, *restricted = np.asarray(jax.jit(jax.vmap(lambda a: mean_return(nearest(a))))(allowed))
    assert 59 < both < 64  # a standard error is 0.5
    assert 34 < max(restricted[:4]) < 40 and np.argmax(restricted[:4]) == 1
    assert 25 < max(restricted[4:]) < 30


def test_random_actions_earn_little():
    space = make().spec.action_space
    found = jax.jit(lambda: mean_return(lambda key, _: jax.vmap(space.sample)(jax.random.split(key, EPISODES))))()
    assert -5 < found < 5, found  # found: -0.5
