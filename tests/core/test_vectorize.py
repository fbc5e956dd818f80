"""vectorize.py on a small environment whose every number is known: the reset pool, auto-reset, independent starts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.core.vectorize import MAX_POOL, vectorize


class State(NamedTuple):
    start: jax.Array
    time: jax.Array


class Draws:
    """An environment that starts at a uniform draw and does as it is told: action 1 terminates, 2 truncates, 3 both.

    Observation: (start, time). reward: `params` × time. resets: how often `reset` was traced.
    """

    def __init__(self):
        self.resets = 0
        spec = EnvSpec("Draws", Box((2,)), Discrete(4))
        self.env = Env(spec, jnp.float32(10), self.reset, self.step)

    def reset(self, key, params):
        self.resets += 1
        start = jax.random.uniform(key)
        return State(start, jnp.int32(0)), jnp.stack([start, 0.0])

    def step(self, key, state, action, params):
        state = State(state.start, state.time + 1)
        time = state.time.astype(jnp.float32)
        obs = jnp.stack([state.start, time])
        return state, EnvStep(obs, params * time, action % 2 == 1, action >= 2)


def run(vec, actions, key):
    """Take `actions` [T, N]: the pool before and after, the first obs and, per step, (state, obs after reset, EnvStep)."""
    init_key, pool_key, step_key = jax.random.split(key, 3)
    state, obs = vec.init(init_key, vec.params)
    pool = vec.prepare(pool_key, vec.params)
    keys = jax.random.split(step_key, actions.shape)

    def one(carry, xs):
        state, obs, pool, out = vec.step(xs[0], *carry, xs[1], vec.params)
        return (state, pool), (state, obs, out)

    (_, after), steps = jax.lax.scan(one, (state, pool), (keys, actions))
    return pool, after, obs, *steps


def play(vec, actions):
    return jax.device_get(jax.jit(functools.partial(run, vec))(actions, jax.random.key(0)))


ACTIONS = np.array([[1, 0, 2], [0, 3, 1], [0, 0, 0], [1, 2, 1]], np.int32)
# What each cell's reset is served: the k-th of environment n takes entry (n + 3 k) mod 4. -1: no reset.
ENTRIES = np.array([[0, -1, 2], [-1, 1, 1], [-1, -1, -1], [3, 0, 0]])
# Steps since the episode began, as the step sees it before any reset.
TIMES = np.array([[1, 1, 1], [1, 2, 1], [2, 1, 1], [3, 2, 2]], np.float32)


def test_resets_take_entries_by_the_rule_and_leave_neighbours_alone():
    pool, after, first, state, obs, out = play(vectorize(Draws().env, 3, 4), ACTIONS)
    pool_starts = pool.entries[1][:, 0]
    assert pool_starts.shape == (4,)
    np.testing.assert_array_equal(after.next_entry, [2, 3, 3])
    start, time = first[:, 0], np.zeros(3)
    for t in range(len(ACTIONS)):
        time = time + 1
        np.testing.assert_array_equal(out.obs[t], np.stack([start, time], 1))  # what the step saw, before any reset
        ended = ENTRIES[t] >= 0
        start, time = np.where(ended, pool_starts[ENTRIES[t]], start), np.where(ended, 0, time)
        np.testing.assert_array_equal(obs[t], np.stack([start, time], 1))
        np.testing.assert_array_equal(state.start[t], start)
        np.testing.assert_array_equal(state.time[t], time)


def test_what_a_step_yields():
    *_, out = play(vectorize(Draws().env, 3, 5), ACTIONS)
    np.testing.assert_array_equal(out.obs[..., 1], TIMES)
    np.testing.assert_array_equal(out.reward, 10 * TIMES)
    np.testing.assert_array_equal(out.terminated, ACTIONS % 2 == 1)
    np.testing.assert_array_equal(out.truncated, ACTIONS >= 2)


@pytest.mark.parametrize(
    ("num_envs", "steps", "size"),
    [
        (2, 2, 2),
        (3, 5, 5),
        (8, 5, 8),
        (16, 320, 320),  # one for every reset there can be
        (4, 10**4, 2500 + 1),  # as many as one environment can need, and no divisor shared
        (64, 64 * 128, MAX_POOL + 1),
        (4096, 4096 * 32, 4096 + 1),
        (1, 10**6, 65_536),
    ],
)
def test_pool_size(num_envs, steps, size):
    vec = vectorize(Draws().env, num_envs, steps)
    pool = jax.eval_shape(vec.prepare, jax.random.key(0), vec.params)
    assert {x.shape[0] for x in jax.tree.leaves(pool.entries)} == {size}


def numbered_env():
    """A start is 32 random bits, which tell it from any other; an action of 1 ends the episode."""

    def reset(key, params):
        start = jax.random.bits(key)
        return start, start

    def step(key, state, action, params):
        return state, EnvStep(state, jnp.float32(0), action == 1, jnp.bool_(False))

    return Env(EnvSpec("Numbered", Box((), dtype=jnp.uint32), Discrete(2)), (), reset, step)


@pytest.mark.parametrize(("num_envs", "steps"), [(64, 128), (1024, 32), (4096, 32)])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_no_environment_sees_a_start_twice_within_an_iteration(num_envs, steps, share):
    """share: of steps that end an episode."""
    ends = np.random.default_rng(0).uniform(size=(steps, num_envs)) < share
    _, _, first, _, obs, _ = play(vectorize(numbered_env(), num_envs, num_envs * steps), ends.astype(np.int32))
    for n in range(num_envs):
        starts = [first[n], *obs[ends[:, n], n]]
        assert len(set(starts)) == len(starts)
    for t in range(steps if share == 1 else 0):  # nor do those that start at once start alike
        assert len(np.unique(obs[t])) == num_envs
    served, resets = len(np.unique(obs[ends])), ends.sum()
    assert served > 0.9 * min(resets, max(MAX_POOL, num_envs))


def test_starts_depend_on_the_key_alone():
    vec, actions = vectorize(numbered_env(), 8, 80), np.ones((10, 8), np.int32)
    starts = [jax.jit(functools.partial(run, vec))(actions, jax.random.key(seed))[4] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.isin(starts[0], starts[2]).any()


def test_a_step_computes_no_reset():
    draws = Draws()
    vec = vectorize(draws.env, 4, 16)
    state, obs = vec.init(jax.random.key(0), vec.params)
    pool = vec.prepare(jax.random.key(1), vec.params)
    assert draws.resets == 2  # traced once for each of the two
    keys = jax.random.split(jax.random.key(2), 4)
    program = str(jax.make_jaxpr(vec.step)(keys, state, pool, jnp.ones(4, jnp.int32), vec.params))
    assert draws.resets == 2
    assert "random_bits" not in program and "threefry" not in program
    assert "random_bits" in str(jax.make_jaxpr(vec.init)(jax.random.key(0), vec.params))  # so it would be seen


def test_environments_start_apart_and_as_a_single_one_does():
    vec = vectorize(Draws().env, 500, 500)
    _, obs = vec.init(jax.random.key(0), vec.params)
    assert len(np.unique(obs[:, 0])) == 500
    assert scipy.stats.kstest(obs[:, 0], "uniform").pvalue > 1e-3
    _, other = vec.init(jax.random.key(1), vec.params)
    assert not np.isin(obs[:, 0], other[:, 0]).any()


def episode_starts(num_envs, steps, pools):
    """Start states of all episodes ended and begun anew over several pools: list of arrays, one a pool, in order."""
    vec = vectorize(Draws().env, num_envs, num_envs * steps)
    actions = np.random.default_rng(0).integers(0, 4, (steps, num_envs)).astype(np.int32)
    keys = jax.random.split(jax.random.key(0), pools)
    *_, obs, _ = jax.jit(jax.vmap(functools.partial(run, vec), (None, 0)))(actions, keys)
    return [starts[actions > 0] for starts in np.asarray(obs[..., 0])]


def test_episodes_start_from_independent_states():
    pools = episode_starts(num_envs=16, steps=20, pools=6)
    for starts in pools:
        assert len(starts) > 200 and len(np.unique(starts)) == len(starts)
    starts = np.concatenate(pools)
    assert len(np.unique(starts)) > len(starts) - 3  # 1500 draws of 2²³ floats: 0.13 chance repeats are expected
    assert scipy.stats.kstest(starts, "uniform").pvalue > 1e-3
    # Neither the next episode's start nor the same place in the next pool tells anything: |r| < 4 / √n.
    assert abs(np.corrcoef(starts[:-1], starts[1:])[0, 1]) < 4 / len(starts) ** 0.5
    same_place = np.concatenate(pools[1:])
    earlier = np.concatenate(pools[:-1])
    assert abs(np.corrcoef(earlier, same_place)[0, 1]) < 4 / len(earlier) ** 0.5


def test_each_environment_steps_with_its_own_key():
    draws = Draws()

    def noisy(key, state, action, params):
        state, out = draws.step(key, state, action, params)
        return state, out._replace(reward=jax.random.uniform(key))

    *_, out = play(vectorize(draws.env._replace(step=noisy), 50, 50), np.zeros((8, 50), np.int32))
    assert len(np.unique(out.reward)) == 400
    assert scipy.stats.kstest(out.reward.ravel(), "uniform").pvalue > 1e-3
