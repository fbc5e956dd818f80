"""Env -> VecEnv: `vmap`, and auto-reset out of a pool of reset states.

A reset is often as dear as a step, and `vmap` would pay it at every step of every environment. Instead an iteration draws
P reset states at once (`prepare`), and the k-th reset of environment n takes entry (n + k N) mod P. P shares no divisor with
N, or is as large as the iteration has steps: so an environment has P resets before it meets an entry again, and no two
environments share one before some environment has reset P / N times.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.checks import checked, checked_batch
from jaxrl.core.types import Env, EnvStep, Key, PyTree, VecEnv

MAX_POOL = 2048  # entries; more only where a single environment may need more
MAX_RESETS = 65_536  # of a single environment in an iteration, that are not repeated


class ResetPool(NamedTuple):
    """entries: (state, obs) with leading axis P. next_entry: the one each environment's next reset takes, int32 [N]."""

    entries: PyTree
    next_entry: jax.Array


def pool_size(num_envs: int, steps: int) -> int:
    """P, for an iteration of `steps` environment steps (T × N, so that an environment resets at most T times)."""
    resets = min(steps // num_envs, MAX_RESETS)
    size = max(num_envs, resets, min(steps, MAX_POOL))
    while size < steps and math.gcd(size, num_envs) > 1:
        size += 1
    return size


def vectorize(env: Env, num_envs: int, steps: int = MAX_POOL) -> VecEnv:
    """`num_envs` copies of `env` with auto-reset, actions clipped to the bounds of its action space.

    Resets take their starts from a pool that `prepare` draws anew, once an iteration. steps: how many environment steps that
    is. Raises InputError, when traced, for what an Env must not give.
    """
    env, size = checked(env), pool_size(num_envs, steps)

    def init(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        return jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)

    def prepare(key: Key, params: PyTree) -> ResetPool:
        entries = jax.vmap(env.reset, (0, None))(jax.random.split(key, size), params)
        return ResetPool(entries, jnp.arange(num_envs, dtype=jnp.int32))

    def step(
        keys: Key, state: PyTree, pool: ResetPool, action: PyTree, params: PyTree
    ) -> tuple[PyTree, PyTree, ResetPool, EnvStep]:
        state, out = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        done = out.terminated | out.truncated
        fresh = jax.tree.map(lambda x: x[pool.next_entry], pool.entries)
        state, obs = trees.where(done, fresh, (state, out.obs))
        next_entry = jnp.where(done, (pool.next_entry + num_envs) % size, pool.next_entry)
        return state, obs, ResetPool(pool.entries, next_entry), out

    return VecEnv(env.spec, env.params, num_envs, init, prepare, step)


def batch_of(env: Env | VecEnv, num_envs: int, steps: int) -> VecEnv:
    """What the loop steps: `vectorize` of an Env; a VecEnv itself, or so many simulators, clipped and checked alike."""
    if not isinstance(env, VecEnv):
        return vectorize(env, num_envs, steps)
    return checked_batch(env.host.sized(num_envs, steps) if env.host else env)
