"""Env -> VecEnv: `vmap`, and auto-reset out of a pool of reset states.

A reset is often as dear as a step, and `vmap` would pay it at every step of every environment. Instead an iteration draws
P reset states at once (`prepare`), and its k-th reset takes entry k mod P, whichever environment asks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import trees
from jaxrl.core.types import Env, EnvStep, Key, PyTree, VecEnv

MAX_POOL = 2048


class ResetPool(NamedTuple):
    """entries: (state, obs) with leading axis P. taken: int32 [], resets served so far."""

    entries: PyTree
    taken: jax.Array


def vectorize(env: Env, num_envs: int, steps: int = MAX_POOL) -> VecEnv:
    """`num_envs` copies of `env` with auto-reset.

    `steps` is how many environment steps one pool serves: never more resets than that, so a pool of as many entries
    repeats none. Beyond `MAX_POOL` entries are reused in turn.
    """
    pool_size = max(num_envs, min(steps, MAX_POOL))

    def init(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        return jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)

    def prepare(key: Key, params: PyTree) -> ResetPool:
        entries = jax.vmap(env.reset, (0, None))(jax.random.split(key, pool_size), params)
        return ResetPool(entries, jnp.int32(0))

    def step(
        keys: Key, state: PyTree, pool: ResetPool, action: PyTree, params: PyTree
    ) -> tuple[PyTree, PyTree, ResetPool, EnvStep]:
        state, out = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        done = out.terminated | out.truncated
        served = pool.taken + jnp.cumsum(done, dtype=jnp.int32)  # [N], this environment's own reset included
        fresh = jax.tree.map(lambda x: x[(served - 1) % pool_size], pool.entries)
        state, obs = trees.where(done, fresh, (state, out.obs))
        return state, obs, ResetPool(pool.entries, served[-1]), out

    return VecEnv(env.spec, env.params, num_envs, init, prepare, step)
