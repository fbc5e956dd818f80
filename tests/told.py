"""An environment that does as it is told: the action says how the episode goes on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.spaces import Box, Discrete, Product
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.core.vectorize import vectorize

KEY = jax.random.key(0)
PLAIN, CODES = Box((2,)), Discrete(4)
HYBRID = Product.of(kind=Discrete(3), force=Box((2,), (-1.0, 0.0), (1.0, 5.0)))


class State(NamedTuple):
    start: jax.Array
    time: jax.Array


def told(observe=None, space=PLAIN, actions=CODES, storage=None, render=None):
    """An action that is 1 modulo 4 terminates, 2 truncates, 3 both; the reward is 10 times the time; a metric is the action.

    observe: State -> observation in `space`; by default (start, time), the start a uniform draw.
    """
    observe = observe or (lambda state: jnp.stack([state.start, state.time.astype(jnp.float32)]))

    def reset(key, params):
        state = State(jax.random.uniform(key), jnp.int32(0))
        return state, observe(state)

    def step(key, state, action, params):
        after = State(state.start, state.time + 1)
        code = action % 4 if isinstance(actions, Discrete) else jnp.int32(0)
        reward = params["gain"] * after.time.astype(jnp.float32)
        return after, EnvStep(observe(after), reward, code % 2 == 1, code // 2 == 1, {"taken": action})

    return Env(EnvSpec("Told", space, actions, storage, render), {"gain": jnp.float32(10)}, reset, step)


def observing(space, x, storage=None):
    """An environment whose observation is always x."""
    return told(lambda state: x, space, storage=storage)


def play(env, actions):
    """The steps of one episode, jitted and vmapped over two alike: a list of EnvStep."""
    step = jax.jit(jax.vmap(env.step, (0, 0, None, None)))
    state, _ = jax.vmap(env.reset, (0, None))(jnp.stack([KEY, KEY]), env.params)
    steps = []
    for action in actions:
        state, out = step(jnp.stack([KEY, KEY]), state, jax.tree.map(jnp.asarray, action), env.params)
        steps.append(jax.tree.map(lambda x: x[0], out))
    return steps


def run(env, actions):
    """`actions` [T, N] in N environments that reset themselves: first obs [N], and obs after reset and EnvStep [T, N]."""
    return jax.device_get(jax.jit(lambda: steps_of(env, actions))())


def steps_of(env, actions):
    vec = vectorize(env, actions.shape[1], actions.size)
    state, first = vec.init(jax.random.key(1), env.params)

    def one(carry, xs):
        state, obs, pool, out = vec.step(xs[0], *carry, xs[1], env.params)
        return (state, pool), (obs, out)

    keys = jax.random.split(jax.random.key(3), actions.shape)
    start = state, vec.prepare(jax.random.key(2), env.params)
    return first, *jax.lax.scan(one, start, (keys, actions))[1]
