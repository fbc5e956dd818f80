"""Adapter: any gymnax environment (gymnax ≥ 1.0) as an `Env`.

Importing gymnax starts the XLA backend: set platform flags before this module is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import ArraySpace, Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Grid, Key, PyTree
from jaxrl.envs.adapters import common


@contextlib.contextmanager
def _imported_when_used(*names: str) -> Iterator[None]:
    """Within this context importing these modules gives a stand-in, which imports the module when it is used."""
    there = [name for name in names if name not in sys.modules]
    for name in there:
        stand_in: Any = types.ModuleType(name)
        stand_in.__getattr__ = lambda attribute, name=name: getattr(importlib.import_module(name), attribute)
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in there:
            del sys.modules[name]


# gymnax draws with them, which we do not ask of it; they take longer to import than all the rest.
with _imported_when_used("seaborn", "matplotlib.pyplot"):
    import gymnax
    from gymnax.environments import spaces as gymnax_spaces
    from gymnax.environments.environment import Environment
    from gymnax.environments.misc.frozen_lake import FrozenLake

NEEDS_DOWNLOAD = {"MNISTBandit-bsuite"}
LAKE_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up


def ids() -> list[str]:
    """The ids of the environments that need no download."""
    return [name for name in gymnax.registered_envs if name not in NEEDS_DOWNLOAD]


def constructor(env_id: str) -> Callable:
    """The `__init__` whose keyword arguments `make` takes for `env_id`, bound to an instance."""
    return gymnax.make(env_id)[0].__init__


def make(env_id: str, **kwargs: Any) -> Env:
    """The registered gymnax environment `env_id`, constructed with `kwargs`."""
    environment, _ = gymnax.make(env_id, **kwargs)
    return wrap(environment, env_id)


def registered_id(environment: Environment) -> str | None:
    """The id that makes an instance like this one without arguments; None where there is none."""
    if environment.name not in ids():
        return None
    default = gymnax.make(environment.name)[0]
    if type(default) is not type(environment) or vars(default).keys() != vars(environment).keys():
        return None
    pairs = [(np.asarray(value), np.asarray(vars(default)[name])) for name, value in vars(environment).items()]
    return environment.name if all(np.array_equal(*pair) for pair in pairs) else None


def wrap(environment: Environment, env_id: str | None = None) -> Env:
    """A gymnax Environment instance as an `Env`: no auto-reset, float32 rewards, strong and stable dtypes."""
    params = trees.strong(environment.default_params)
    key = jax.random.key(0)
    with common.lenient():
        obs_shape, state_shape = jax.eval_shape(environment.reset_env, key, params)
    action_space = _space(environment.action_space(params))
    action = jnp.zeros(action_space.shape, action_space.dtype)
    with common.lenient():
        after = jax.eval_shape(environment.step_env, key, state_shape, action, params)
        state_like = common.stable(state_shape, after[1])
    observation_space = _space(environment.observation_space(params), obs_shape)
    env_id = env_id or environment.name
    storage = "bool" if env_id.endswith("-MinAtar") else None
    spec = EnvSpec(env_id, observation_space, action_space, storage, grid=_grid(environment))

    def reset(key: Key, params: PyTree) -> tuple[PyTree, jax.Array]:
        with common.lenient():
            obs, state = environment.reset_env(key, params)
        return trees.cast_like(common.arrays(state), state_like), obs.astype(observation_space.dtype)

    def step(key: Key, state: PyTree, action: jax.Array, params: PyTree) -> tuple[PyTree, EnvStep]:
        with common.lenient():
            obs, state, reward, terminated, _ = environment.step_env(key, state, action, params)
            state = trees.cast_like(common.arrays(state), state_like)
            truncated = environment.is_truncated(state, params)
        return state, EnvStep(
            obs.astype(observation_space.dtype),
            jnp.asarray(reward, jnp.float32),
            jnp.asarray(terminated, bool),
            jnp.asarray(truncated, bool),
        )

    return Env(spec, params, reset, step)


def _grid(environment: Environment) -> Grid | None:
    if hasattr(environment, "env_map"):  # FourRooms, MetaMaze
        walls, moves = ~np.asarray(environment.env_map, bool), np.asarray(environment.directions).tolist()
        tiles = "".join("W" if wall else " " for wall in walls.ravel())
        return Grid(len(walls), walls.shape[1], tuple((down, right) for down, right in moves), tiles)
    if not isinstance(environment, FrozenLake):
        return None
    return Grid(environment.nrow, environment.ncol, LAKE_MOVES, "".join("SFHG"[tile] for tile in np.ravel(environment.desc)))


def _space(space: gymnax_spaces.Space, observed: jax.ShapeDtypeStruct | None = None) -> ArraySpace:
    """Our space for gymnax's. The dtype is the observed one: Catch and FourRooms declare another than they return."""
    if isinstance(space, gymnax_spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, gymnax_spaces.Box):
        shape = tuple(space.shape) if observed is None else observed.shape
        dtype = space.dtype if observed is None else observed.dtype
        return Box(shape, _bound(space.low), _bound(space.high), trees.narrow(dtype))
    raise InputError(f"gymnax space {space} is not supported; jaxrl takes Discrete and Box")


def _bound(bound: Any) -> Any:
    array = np.asarray(bound, np.float32)
    return float(array) if array.ndim == 0 else _nested(array)


def _nested(array: np.ndarray) -> Any:
    return tuple(_nested(x) for x in array) if array.ndim else float(array)
