"""Simulators on the host as the compiled loop steps them: a `VecEnv` whose init and step call out of the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxrl.core import checks
from jaxrl.core.types import EnvStep, Host, Key, PyTree, VecEnv
from jaxrl.envs.host.pool import IDLE, STORED, Handle, Simulators


def vec_env(simulators: Simulators, num_envs: int, steps: int = 0) -> VecEnv:
    """N simulators of one kind as a `VecEnv`.

    steps: environment steps of an iteration: simulators are started anew at the ends of iterations only; 0: never.
    """
    spec = simulators.spec
    obs_like = checks.element(spec.observation_space, (num_envs,))
    iteration = max(1, steps // num_envs)
    restart_every = -(-simulators.restart_every // iteration) * iteration if steps else 0

    def init(key: Key, params: PyTree) -> tuple[Handle, PyTree]:
        seeds = _seeds(jax.random.split(key, num_envs))
        number, obs = start(seeds)
        return Handle(number, seeds, jnp.int32(0)), obs

    def step(
        keys: Key, state: Handle, pool: PyTree, action: PyTree, params: PyTree
    ) -> tuple[Handle, PyTree, PyTree, EnvStep]:
        handle, obs, out = advance(state, action)
        return handle, obs, pool, out

    @_members_together
    def start(seeds: jax.Array) -> tuple[jax.Array, PyTree]:
        members = seeds.shape[:-1]

        def on_host(seeds: jax.Array) -> tuple[np.ndarray, PyTree]:
            with simulators.remembered():
                found = [simulators.start(row) for row in np.asarray(seeds).reshape(-1, num_envs)]
            obs = jax.tree.map(lambda *x: np.stack(x), *(obs for _, obs in found))
            return _shaped((np.asarray([number for number, _ in found], np.int32), obs), members)

        return io_callback(on_host, (jax.ShapeDtypeStruct(members, jnp.int32), _each(obs_like, members)), seeds)

    @_members_together
    def advance(handle: Handle, action: PyTree) -> tuple[Handle, PyTree, EnvStep]:
        members = handle.steps.shape

        def on_host(*args: PyTree) -> PyTree:
            flat = [jax.tree.map(lambda x: np.reshape(np.asarray(x), (-1, *x.shape[len(members) :])), arg) for arg in args]
            with simulators.remembered():
                return _shaped(simulators.step(flat[0], flat[1], restart_every), members)

        flag: Any = jax.ShapeDtypeStruct((num_envs,), jnp.bool_)
        reward: Any = jax.ShapeDtypeStruct((num_envs,), jnp.float32)
        out = EnvStep(obs_like, reward, flag, flag, {}, flag, flag)
        return io_callback(on_host, (handle, *_each((obs_like, out), members)), handle, action)

    return VecEnv(spec, (), num_envs, init, lambda key, params: (), step, _host(simulators, restart_every))


def _host(simulators: Simulators, restart_every: int) -> Host:
    """What the simulators offer beside; see `Host`."""

    @_members_together
    def release(numbers: jax.Array) -> jax.Array:
        def on_host(numbers: jax.Array) -> np.ndarray:
            simulators.release(np.asarray(numbers))
            return np.zeros(numbers.shape, np.int32)

        return io_callback(on_host, jax.ShapeDtypeStruct(numbers.shape, jnp.int32), numbers)

    def failure() -> Exception | None:
        found = simulators.failure()
        for device in jax.local_devices() if found else ():  # a call that ends well: else JAX raises again as Python ends
            with jax.default_device(device):
                jax.block_until_ready(release(jnp.int32(IDLE)))
        return found

    return Host(
        lambda width, steps: vec_env(simulators if steps else simulators.evaluated, width, steps),
        restart_every,
        lambda state: release(state.number),
        lambda state: state._replace(number=np.full_like(state.number, STORED)),
        lambda state: state._replace(number=np.full_like(state.number, IDLE)),
        failure,
        simulators.filmed,
    )


def _seeds(keys: Key) -> jax.Array:
    """A seed in [0, 2³¹) from each key [N]."""
    return jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32) >> 1)(keys).astype(jnp.int32)


def _each(tree: PyTree, members: tuple[int, ...]) -> PyTree:
    """Shapes with the members' axes in front."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*members, *x.shape), x.dtype), tree)


def _shaped(tree: PyTree, members: tuple[int, ...]) -> PyTree:
    """Leaves [M, ...] -> [*members, ...]."""
    return jax.tree.map(lambda x: np.reshape(np.asarray(x), (*members, *np.shape(x)[1:])), tree)


def _members_together(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`fn`, which takes any axes of members in front: its `vmap` is one call with one more of them."""
    wrapped = jax.custom_batching.custom_vmap(fn)

    @wrapped.def_vmap
    def rule(size: int, in_batched: list[PyTree], *args: PyTree) -> tuple[PyTree, PyTree]:
        def spread(x: jax.Array, batched: bool) -> jax.Array:
            return x if batched else jnp.broadcast_to(x, (size, *x.shape))

        out = wrapped(*jax.tree.map(spread, args, tuple(in_batched)))
        return out, jax.tree.map(lambda _: True, out)

    return wrapped
