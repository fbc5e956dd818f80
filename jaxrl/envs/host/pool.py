"""Simulators on the host, stepped by the compiled loop: a `VecEnv` whose init and step call out of the program.

Each member of a run (a seed of a configuration) has a pool of N simulators of its own. Under `vmap` one call steps the
pools of all members: their actions are sent first and their results collected then, so that members whose simulators run in
threads or processes do not wait for each other. A member's numbers do not depend on who else is trained.

The state that the loop carries is only a handle: the simulators' own state is on the host and cannot be stored. So a state
from a checkpoint holds no pool (`released`); its first step starts new simulators, in rows that are not valid and say that
the episodes before were truncated.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxrl.core.checks import element
from jaxrl.core.errors import InputError
from jaxrl.core.types import EnvSpec, EnvStep, Key, PyTree, VecEnv

NONE = -1  # the handle of no pool


class SimulatorError(InputError):
    """A simulator failed, hangs, or gave what its spaces do not allow."""


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
    """What the loop carries of a pool: its number, NONE where it is yet to be started, and its steps so far; int32 []."""

    number: jax.Array
    steps: jax.Array


class _Live:
    """A pool that is in use, its width N, and how often it was stepped."""

    def __init__(self, pool: Pool, width: int) -> None:
        self.pool, self.width, self.steps = pool, width, 0


class Simulators:
    """All pools of one kind in this process, by number; one that is given back is used again.

    spec: what they must give. new: (N) -> Pool.
    """

    def __init__(self, spec: EnvSpec, make: Callable[[int], Pool]) -> None:
        self.spec, self.new = spec, make
        self._numbers, self._lock = itertools.count(), threading.Lock()  # devices call at the same time
        self._live: dict[int, _Live] = {}
        self._idle: dict[int, list[Pool]] = {}
        atexit.register(self.close)

    def start(self, seeds: np.ndarray) -> tuple[int, PyTree]:
        """A pool in which all episodes are new: its number and obs [N, ...]. seeds: [N]."""
        width = len(seeds)
        with self._lock:
            idle = self._idle.get(width, [])
            pool = idle.pop() if idle else None
        with self._named("could not be started"):
            pool = pool or self.new(width)
            obs = pool.reset(seeds.astype(np.int64))
        self._check_obs("reset", obs, width)
        with self._lock:
            number = next(self._numbers)
            self._live[number] = _Live(pool, width)
        return number, obs

    def step(self, handle: Handle, seeds: np.ndarray, actions: PyTree) -> tuple[Handle, PyTree, EnvStep]:
        """Step the pools of M members: handle [M], seeds and actions [M, N, ...] -> leaves [M, ...], [M, N, ...] twice.

        Where there is no pool, one is started: its row is not valid, and truncates the episodes before.
        """
        count, width = seeds.shape
        fresh = {i: self.start(seeds[i]) for i in range(count) if handle.number[i] == NONE}
        live = {i: self._find(int(handle.number[i]), int(handle.steps[i])) for i in range(count) if i not in fresh}
        with self._named("failed in a step"):
            for i, each in live.items():
                each.pool.send(jax.tree.map(lambda x, i=i: x[i], actions))
            received = {i: each.pool.receive() for i, each in live.items()}
        for i, each in live.items():
            each.steps += 1
            self._check(received[i], width)
        received |= {i: _started(obs, width) for i, (_, obs) in fresh.items()}
        number = [fresh[i][0] if i in fresh else handle.number[i] for i in range(count)]
        steps = [0 if i in fresh else handle.steps[i] + 1 for i in range(count)]
        r = jax.tree.map(lambda *rows: np.stack(rows), *(received[i] for i in range(count)))
        out = EnvStep(r.next_obs, r.reward, r.terminated, r.truncated, {}, r.valid)
        after: Any = Handle(*(np.asarray(x, np.int32) for x in (number, steps)))  # type: ignore[arg-type]
        return after, r.obs, out

    def release(self, numbers: np.ndarray) -> None:
        """Take back the pools of these numbers; NONE is none."""
        with self._lock:
            for number in np.ravel(numbers):
                if each := self._live.pop(int(number), None):
                    self._idle.setdefault(each.width, []).append(each.pool)

    def close(self) -> None:
        """Close all pools."""
        with self._lock:
            pools = [each.pool for each in self._live.values()] + [pool for idle in self._idle.values() for pool in idle]
            self._live, self._idle = {}, {}
        for pool in pools:
            pool.close()

    def pool(self, number: int) -> Pool:
        """The pool of a number, to draw its frames. Raises SimulatorError where there is none."""
        with self._lock:
            if number not in self._live:
                raise SimulatorError(f"the simulators of this state of {self.spec.id} are gone: go on from a checkpoint")
            return self._live[number].pool

    def _find(self, number: int, steps: int) -> _Live:
        """The pool of a handle, which must be as the handle says: simulators cannot go back."""
        self.pool(number)
        each = self._live[number]
        if each.steps != steps:
            raise SimulatorError(
                f"the simulators of {self.spec.id} are at step {each.steps}, the state at step {steps}: a state with "
                "simulators on the host can be stepped once only"
            )
        return each

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except SimulatorError as error:
            raise SimulatorError(f"{self.spec.id} {what}: {error}") from error
        except Exception as error:  # whatever a library raises
            raise SimulatorError(f"{self.spec.id} {what}: {type(error).__name__}: {_first_line(error)}") from error

    def _check(self, received: Received, width: int) -> None:
        """Raises SimulatorError, naming the simulator, for what the spec does not allow."""
        self._check_obs("step", received.obs, width)
        self._check_obs("step", received.next_obs, width)
        for name, kind in (("reward", np.float32), ("terminated", bool), ("truncated", bool), ("valid", bool)):
            _check_array(f"{self.spec.id}: step gives {name}", getattr(received, name), (width,), kind)

    def _check_obs(self, function: str, obs: PyTree, width: int) -> None:
        expected = element(self.spec.observation_space, (width,))
        structures: list[Any] = [jax.tree.structure(obs), jax.tree.structure(expected)]
        if structures[0] != structures[1]:
            raise SimulatorError(f"{self.spec.id}: {function} gives obs of another structure than its space")
        for (path, x), like in zip(jax.tree_util.tree_leaves_with_path(obs), jax.tree.leaves(expected), strict=True):
            _check_array(f"{self.spec.id}: {function} gives obs{jax.tree_util.keystr(path)}", x, like.shape, like.dtype)


def _check_array(what: str, x: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != dtype:
        got = f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise SimulatorError(f"{what} {got}, expected {np.dtype(dtype)}{list(shape)}")
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        index = int(np.argwhere(~np.isfinite(x))[0][0])
        raise SimulatorError(f"{what} that is not finite, in simulator {index} of {len(x)}")


def _started(obs: PyTree, width: int) -> Received:
    """The row in which simulators are started."""
    no, yes = np.zeros(width, bool), np.ones(width, bool)
    return Received(obs, obs, np.zeros(width, np.float32), no, yes, no)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]


def vec_env(simulators: Simulators, num_envs: int) -> VecEnv:
    """N simulators of one kind as a `VecEnv`."""
    spec = simulators.spec
    obs_like = element(spec.observation_space, (num_envs,))

    def init(key: Key, params: PyTree) -> tuple[Handle, PyTree]:
        number, obs = start(_seeds(jax.random.split(key, num_envs)))
        return Handle(number, jnp.int32(0)), obs

    def step(
        keys: Key, state: Handle, pool: PyTree, action: PyTree, params: PyTree
    ) -> tuple[Handle, PyTree, PyTree, EnvStep]:
        after, obs, out = advance(state, _seeds(keys), action)
        return after, obs, pool, out

    @_members_together
    def start(seeds: jax.Array) -> tuple[jax.Array, PyTree]:
        members = seeds.shape[:-1]

        def on_host(seeds: jax.Array) -> tuple[np.ndarray, PyTree]:
            found = [simulators.start(row) for row in np.asarray(seeds).reshape(-1, num_envs)]
            obs = jax.tree.map(lambda *x: np.stack(x), *(obs for _, obs in found))
            return _shaped((np.asarray([number for number, _ in found], np.int32), obs), members)

        return io_callback(on_host, (jax.ShapeDtypeStruct(members, jnp.int32), _each(obs_like, members)), seeds)

    @_members_together
    def advance(handle: Handle, seeds: jax.Array, action: PyTree) -> tuple[Handle, PyTree, EnvStep]:
        members = seeds.shape[:-1]

        def on_host(*args: PyTree) -> PyTree:
            flat = [jax.tree.map(lambda x: np.reshape(np.asarray(x), (-1, *x.shape[len(members) :])), arg) for arg in args]
            return _shaped(simulators.step(*flat), members)

        flag: Any = jax.ShapeDtypeStruct((num_envs,), jnp.bool_)
        reward: Any = jax.ShapeDtypeStruct((num_envs,), jnp.float32)
        out = EnvStep(obs_like, reward, flag, flag, {}, flag)
        return io_callback(on_host, (handle, *_each((obs_like, out), members)), handle, seeds, action)

    return VecEnv(spec, (), num_envs, init, lambda key, params: (), step)


def released(simulators: Simulators, state: Handle) -> Handle:
    """A handle, [] or [M], without its pools, which are taken back: as a checkpoint holds it."""
    simulators.release(np.asarray(state.number))
    return Handle(jnp.full_like(state.number, NONE), jnp.zeros_like(state.steps))


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
