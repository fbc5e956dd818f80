"""Simulators on the host, stepped by the compiled loop: a `VecEnv` whose init and step call out of the program.

Each member of a run (a seed of a configuration) has a pool of N simulators of its own. Under `vmap` one call steps the
pools of all members: their actions are sent first and their results collected then, so that members whose simulators run in
threads or processes do not wait for each other. A member's numbers do not depend on who else is trained.

The state that the loop carries is only a handle: the simulators themselves are on the host, and stay until the process ends.
They cannot be stored, nor go back: such a state can be stepped once only, and not in another process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxrl.core import checks
from jaxrl.core.errors import InputError
from jaxrl.core.types import EnvSpec, EnvStep, Key, PyTree, VecEnv


class Received(NamedTuple):
    """What a step of N simulators gave, NumPy arrays [N, ...].

    obs: after resets. next_obs: before them. valid: False in rows that a library spends on resetting.
    """

    obs: PyTree
    next_obs: PyTree
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray


class Pool(Protocol):
    """N simulators that are stepped together, and reset themselves where an episode ended. NumPy in and out."""

    def reset(self, seeds: np.ndarray) -> PyTree:
        """Begin new episodes in all of them: obs [N, ...]. seeds: int64 [N], in [0, 2³¹)."""

    def send(self, action: PyTree) -> None:
        """Begin a step with actions [N, ...]."""

    def receive(self) -> Received:
        """Wait for the step to end."""

    def close(self) -> None:
        """Give back what the simulators hold."""


class Handle(NamedTuple):
    """What the loop carries of a pool: its number, and how often it was stepped; int32 []."""

    number: jax.Array
    steps: jax.Array


class Simulators:
    """All pools of one kind in this process, by number. spec: what they must give. new: (N) -> Pool."""

    def __init__(self, spec: EnvSpec, new: Callable[[int], Pool]) -> None:
        self.spec, self.new = spec, new
        self._pools: list[Pool] = []
        self._steps: list[int] = []
        self._lock = threading.Lock()  # devices call at the same time
        atexit.register(self.close)

    def start(self, seeds: np.ndarray) -> tuple[int, PyTree]:
        """A new pool, a seed for each simulator: its number and obs [N, ...]. Raises InputError where it cannot start."""
        with checks.explained(f"start of {self.spec.id}", (Exception,)):
            pool = self.new(len(seeds))
            obs = pool.reset(seeds.astype(np.int64))
        self._check_obs("reset", obs, len(seeds))
        with self._lock:
            self._pools.append(pool)
            self._steps.append(0)
            return len(self._pools) - 1, obs

    def step(self, handle: Handle, actions: PyTree) -> tuple[np.ndarray, PyTree, EnvStep]:
        """Step the pools of M members: handle [M], actions [M, N, ...] -> steps [M], obs after resets, EnvStep [M, N, ...].

        Raises InputError, naming the simulator, for what the spec does not allow.
        """
        numbers = [self._checked(int(number), int(steps)) for number, steps in zip(*handle, strict=True)]
        with checks.explained(f"step of {self.spec.id}", (Exception,)):
            for i, number in enumerate(numbers):
                self._pools[number].send(jax.tree.map(lambda x, i=i: x[i], actions))
            received = [self._pools[number].receive() for number in numbers]
        for number, each in zip(numbers, received, strict=True):
            self._steps[number] += 1
            self._check(each, len(each.reward))
        r = jax.tree.map(lambda *rows: np.stack(rows), *received)
        out = EnvStep(r.next_obs, r.reward, r.terminated, r.truncated, {}, r.valid)
        return np.asarray(handle.steps, np.int32) + np.int32(1), r.obs, out

    def close(self) -> None:
        """Close all pools; no state with simulators can be stepped any more."""
        with self._lock:
            pools, self._pools, self._steps = self._pools, [], []
        for pool in pools:
            pool.close()

    def _checked(self, number: int, steps: int) -> int:
        """The number of a pool that is as its handle says."""
        if number >= len(self._pools):
            raise InputError(f"the simulators of this state of {self.spec.id} are gone: such a run cannot be resumed")
        if self._steps[number] != steps:
            raise InputError(
                f"the simulators of {self.spec.id} are at step {self._steps[number]}, the state at step {steps}: a state "
                "with simulators on the host can be stepped once only"
            )
        return number

    def _check(self, received: Received, width: int) -> None:
        self._check_obs("step", received.obs, width)
        self._check_obs("step", received.next_obs, width)
        for name, kind in (("reward", np.float32), ("terminated", bool), ("truncated", bool), ("valid", bool)):
            _check_array(f"{self.spec.id}: step gives {name}", getattr(received, name), (width,), kind)

    def _check_obs(self, function: str, obs: PyTree, width: int) -> None:
        expected = checks.element(self.spec.observation_space, (width,))
        structures: list[Any] = [jax.tree.structure(obs), jax.tree.structure(expected)]
        if structures[0] != structures[1]:
            raise InputError(f"{self.spec.id}: {function} gives obs of another structure than its space")
        for (path, x), like in zip(jax.tree_util.tree_leaves_with_path(obs), jax.tree.leaves(expected), strict=True):
            _check_array(f"{self.spec.id}: {function} gives obs{jax.tree_util.keystr(path)}", x, like.shape, like.dtype)


def _check_array(what: str, x: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != dtype:
        got = f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise InputError(f"{what} {got}, expected {np.dtype(dtype)}{list(shape)}")
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        index = int(np.argwhere(~np.isfinite(x))[0][0])
        raise InputError(f"{what} that is not finite, in simulator {index} of {len(x)}")


def vec_env(simulators: Simulators, num_envs: int) -> VecEnv:
    """N simulators of one kind as a `VecEnv`."""
    spec = simulators.spec
    obs_like = checks.element(spec.observation_space, (num_envs,))

    def init(key: Key, params: PyTree) -> tuple[Handle, PyTree]:
        number, obs = start(_seeds(jax.random.split(key, num_envs)))
        return Handle(number, jnp.int32(0)), obs

    def step(
        keys: Key, state: Handle, pool: PyTree, action: PyTree, params: PyTree
    ) -> tuple[Handle, PyTree, PyTree, EnvStep]:
        steps, obs, out = advance(state, action)
        return Handle(state.number, steps), obs, pool, out

    @_members_together
    def start(seeds: jax.Array) -> tuple[jax.Array, PyTree]:
        members = seeds.shape[:-1]

        def on_host(seeds: jax.Array) -> tuple[np.ndarray, PyTree]:
            found = [simulators.start(row) for row in np.asarray(seeds).reshape(-1, num_envs)]
            obs = jax.tree.map(lambda *x: np.stack(x), *(obs for _, obs in found))
            return _shaped((np.asarray([number for number, _ in found], np.int32), obs), members)

        return io_callback(on_host, (jax.ShapeDtypeStruct(members, jnp.int32), _each(obs_like, members)), seeds)

    @_members_together
    def advance(handle: Handle, action: PyTree) -> tuple[jax.Array, PyTree, EnvStep]:
        members = handle.steps.shape

        def on_host(*args: PyTree) -> PyTree:
            flat = [jax.tree.map(lambda x: np.reshape(np.asarray(x), (-1, *x.shape[len(members) :])), arg) for arg in args]
            return _shaped(simulators.step(*flat), members)

        flag: Any = jax.ShapeDtypeStruct((num_envs,), jnp.bool_)
        reward: Any = jax.ShapeDtypeStruct((num_envs,), jnp.float32)
        out = EnvStep(obs_like, reward, flag, flag, {}, flag)
        return io_callback(on_host, (handle.steps, *_each((obs_like, out), members)), handle, action)

    return VecEnv(spec, (), num_envs, init, lambda key, params: (), step)


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
