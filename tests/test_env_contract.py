"""What every environment must keep, our own and gymnax's: new ones are picked up by themselves."""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import registry
from jaxrl.spaces import Discrete
from jaxrl.types import Env
from jaxrl.vectorize import vectorize

NAMES = registry.env_names()
BROADCASTS = {"Swimmer-misc"}  # not ours, and written without care for jax_numpy_rank_promotion
NUM_ENVS, STEPS, POOL = 4, 300, 64
TIME_LIMIT = 6  # of the second member, where the environment's parameters have one


class Played(NamedTuple):
    """A random policy's run; leaves [2, ...]: with the default parameters, and with a short time limit."""

    pool: Any  # (state, obs) [2, P, ...]
    obs: Any  # after reset [2, T, N, ...]
    out: Any  # EnvStep, before any reset [2, T, N, ...]
    state: Any  # after reset [2, T, N, ...]


def rank_promotion(name):
    return jax.numpy_rank_promotion("allow") if name in BROADCASTS else contextlib.nullcontext()


@functools.cache
def environment(name) -> Env:
    with rank_promotion(name):
        env = registry.find_env(name)
    assert isinstance(env, Env)
    return env


def time_limited(env):
    names = [n for n in registry.param_names(env.params) if n == "max_steps_in_episode"]
    return registry.with_params(env.spec.id, env.params, dict.fromkeys(names, TIME_LIMIT)) if names else None


@functools.cache
def played(name) -> tuple[Played, Played]:
    """Two runs with the same key, by one compiled program that takes parameters as arguments, vmapped over two."""
    env = environment(name)
    vec = vectorize(env, NUM_ENVS, POOL)

    def run(key, params):
        pool_key, act_key, env_key = jax.random.split(key, 3)
        pool = vec.prepare(pool_key, params)
        state = jax.tree.map(lambda x: x[-NUM_ENVS:], pool.entries[0])  # vec.init would compile the reset once more

        def one(carry, keys):
            act_key, env_keys = keys
            action = jax.vmap(env.spec.action_space.sample)(jax.random.split(act_key, NUM_ENVS))
            state, obs, pool, out = vec.step(env_keys, *carry, action, params)
            return (state, pool), (obs, out, state)

        keys = jax.random.split(act_key, STEPS), jax.random.split(env_key, (STEPS, NUM_ENVS))
        return Played(pool.entries, *jax.lax.scan(one, (state, pool), keys)[1])

    params = jax.tree.map(lambda *x: jnp.stack(x), env.params, time_limited(env) or env.params)
    fast_compile = {"xla_backend_optimization_level": 1}
    with rank_promotion(name):
        program = jax.jit(jax.vmap(run, (None, 0)), compiler_options=fast_compile)
        return tuple(jax.device_get(program(jax.random.key(0), params)) for _ in range(2))


@functools.cache
def shapes(name):
    """What reset and step return, as shapes: ((state, obs), (state, EnvStep))."""
    env = environment(name)
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.ShapeDtypeStruct(env.spec.action_space.shape, env.spec.action_space.dtype)
    with rank_promotion(name):
        state, obs = jax.eval_shape(env.reset, key, env.params)
        return (state, obs), jax.eval_shape(env.step, key, state, action, env.params)


each_environment = pytest.mark.parametrize("name", NAMES)


def leaves(tree):
    """Arrays by path, typed keys left out: they are no numbers."""
    found = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    return {path: x for path, x in found.items() if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)}


@each_environment
def test_the_spec_describes_what_comes(name):
    (_, obs), (_, out) = shapes(name)
    space = environment(name).spec.observation_space
    for x in (obs, out.obs):
        assert (x.shape, x.dtype, x.weak_type) == (space.shape, space.dtype, False)
    assert (out.reward.shape, out.reward.dtype, out.reward.weak_type) == ((), jnp.float32, False)
    for flag in (out.terminated, out.truncated):
        assert (flag.shape, flag.dtype) == ((), jnp.bool_)
    assert all(x.shape == () for x in out.metrics.values())
    assert environment(name).spec.id == name
    assert hash(environment(name).spec) is not None


@each_environment
def test_a_step_keeps_the_states_types(name):
    (before, _), (after, _) = shapes(name)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for path, x in leaves(before).items():
        y = leaves(after)[path]
        assert (x.shape, x.dtype, x.weak_type, y.weak_type) == (y.shape, y.dtype, False, False), path


@each_environment
def test_parameters_are_arrays_of_a_strong_type(name):
    for path, x in leaves(environment(name).params).items():
        assert isinstance(x, jax.Array) and not x.weak_type, path


@each_environment
def test_the_same_key_gives_the_same_run(name):
    first, second = map(leaves, played(name))
    assert len(first) >= 5 and first.keys() == second.keys()
    for path, x in first.items():
        np.testing.assert_array_equal(x, second[path], err_msg=path)


@each_environment
def test_a_long_random_run_is_finite_and_within_the_spaces(name):
    run = played(name)[0]
    for path, x in leaves(run).items():
        assert np.isfinite(x).all(), path
    space = environment(name).spec.observation_space
    if isinstance(space, Discrete):
        assert run.obs.min() >= 0 and run.obs.max() < space.n


@each_environment
def test_the_storage_dtype_holds_observations_exactly(name):
    run = played(name)[0]
    stored = environment(name).spec.storage_dtype or run.obs.dtype
    np.testing.assert_array_equal(run.out.obs.astype(stored).astype(run.obs.dtype), run.out.obs)


@each_environment
def test_after_an_end_comes_the_next_entry_of_the_reset_pool(name):
    run = played(name)[0]
    for member in range(2):
        pool, obs, out = jax.tree.map(lambda x, i=member: x[i], (run.pool[1], run.obs, run.out))
        done = out.terminated | out.truncated
        expected, taken = out.obs.copy(), 0
        for t, n in zip(*np.nonzero(done), strict=True):  # in order of steps, then environments
            expected[t, n] = pool[taken % POOL]
            taken += 1
        np.testing.assert_array_equal(obs, expected)


@each_environment
def test_a_time_limit_given_as_a_parameter_is_kept(name):
    """The second member's episodes are cut at six steps, in the program that gives the first its own limit."""
    if time_limited(environment(name)) is None:
        pytest.skip("has no parameter max_steps_in_episode")
    run = played(name)[0]
    truncated, terminated = run.out.truncated[1], run.out.terminated[1]
    age = np.zeros(NUM_ENVS, int)
    for t in range(STEPS):
        age += 1
        np.testing.assert_array_equal(truncated[t], age == TIME_LIMIT)
        age[truncated[t] | terminated[t]] = 0
