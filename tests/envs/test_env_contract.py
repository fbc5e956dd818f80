"""What every environment must keep, our own and gymnax's: new ones are picked up by themselves."""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env
from jaxrl.core.vectorize import vectorize
from jaxrl.experiment import registry

NAMES = registry.env_names()
BROADCASTS = {"Swimmer-misc"}  # not ours, and written without care for jax_numpy_rank_promotion
NUM_ENVS, STEPS, POOL = 4, 200, 64
TIME_LIMIT = 6  # of the third run, where the environment's parameters have one
UNLIMITED = {"DigitsBandit"}  # have none: every step ends an episode. Named here, for collection builds no environment


class Played(NamedTuple):
    """A random policy's run in N environments."""

    pool: Any  # (state, obs) [P, ...]
    obs: Any  # after reset [T, N, ...]
    out: Any  # EnvStep, before any reset [T, N, ...]
    state: Any  # after reset [T, N, ...]


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
def played(name) -> list[Played]:
    """Three runs by one compiled program, the same key for each: the first two alike, the third with a short time limit."""
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

    key, limited = jax.random.key(0), time_limited(env) or env.params
    with rank_promotion(name):
        program = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0}).lower(key, env.params).compile()
        return [jax.device_get(program(key, params)) for params in (env.params, env.params, limited)]


@functools.cache
def shapes(name):
    """What reset and step return, as shapes: ((state, obs), (state, EnvStep))."""
    env = environment(name)
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.eval_shape(env.spec.action_space.sample, key)
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
def test_parameters_may_be_vmapped(name):
    """Two settings of every parameter at once, as in a sweep: what comes has a leading axis of two and is else the same."""
    env = environment(name)
    (state, obs), after = shapes(name)
    params = jax.tree.map(lambda x: jnp.stack([x, x]), env.params)
    key, action = jax.eval_shape(lambda: (jax.random.key(0), env.spec.action_space.sample(jax.random.key(0))))
    with rank_promotion(name):
        found = (
            jax.eval_shape(jax.vmap(env.reset, (None, 0)), key, params),
            jax.eval_shape(jax.vmap(env.step, (None, None, None, 0)), key, state, action, params),
        )
    for path, x in leaves(((state, obs), after)).items():
        y = leaves(found)[path]
        assert ((2, *x.shape), x.dtype) == (y.shape, y.dtype), path


@each_environment
def test_the_same_key_gives_the_same_run(name):
    first, second = map(leaves, played(name)[:2])
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


@pytest.mark.parametrize("run", [0, 2])
@each_environment
def test_after_an_end_comes_the_next_entry_of_the_reset_pool(name, run):
    (_, pool), obs, out, _ = played(name)[run]
    expected, resets = out.obs.copy(), np.zeros(NUM_ENVS, int)
    for t, n in zip(*np.nonzero(out.terminated | out.truncated), strict=True):
        expected[t, n] = pool[(n + resets[n] * NUM_ENVS) % len(pool)]
        resets[n] += 1
    np.testing.assert_array_equal(obs, expected)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNLIMITED])
def test_a_time_limit_given_as_a_parameter_is_kept(name):
    """Episodes are cut at six steps, by the program that was run with the default limit before."""
    assert time_limited(environment(name)) is not None, "has no parameter max_steps_in_episode: list it in UNLIMITED"
    out = played(name)[2].out
    age = np.zeros(NUM_ENVS, int)
    for t in range(STEPS):
        age += 1
        np.testing.assert_array_equal(out.truncated[t], age == TIME_LIMIT)
        age[out.truncated[t] | out.terminated[t]] = 0
