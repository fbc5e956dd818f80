"""Jumanji's combinatorial problems and games in JAX (extra `jumanji`), as `jumanji:Snake-v1`, with their action masks."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError, unknown
from jaxrl.core.spaces import MASK, Box, Discrete, MultiDiscrete, Space
from jaxrl.core.types import Env, Key, PyTree
from jaxrl.envs.adapters import common
from jaxrl.envs.adapters.common import Outcome
from jaxrl.envs.parts.libraries import library


def make(name: str, **kwargs: Any) -> Env:
    """The environment that Jumanji registers by this name.

    Where a mask says which combinations of several integers are legal, actions are the numbers of these combinations, row by
    row, so that it is a mask of all actions. kwargs: those of the environment's class. Raises InputError for an unknown
    name, for one with a reward for each of several agents, or without the extra.
    """
    env_id = f"jumanji:{name}"
    jumanji = library(env_id, "jumanji", "jumanji")
    known = jumanji.registered_environments()
    if name not in known:
        raise unknown("Jumanji environment", name, known)
    with common.lenient():
        environment = jumanji.make(name, **kwargs)
        first = jax.eval_shape(lambda: environment.reset(jax.random.key(0)))[1]
    if first.reward.shape:
        raise InputError(f"{env_id} gives a reward for each of {first.reward.shape[0]} agents; jaxrl takes one number")
    return _wrap(env_id, environment, common.plain(first.observation))


def _wrap(env_id: str, environment: Any, obs_like: PyTree) -> Env:
    space = _action_space(env_id, environment.action_spec)
    mask = obs_like.get(MASK) if isinstance(obs_like, dict) else None
    sizes = space.sizes if isinstance(space, MultiDiscrete) else ()
    numbered = bool(sizes) and mask is not None and mask.shape == sizes

    def outcome(state: PyTree) -> Outcome:
        now = state[1]
        obs, last = common.plain(now.observation), now.step_type == 2
        if mask is not None:
            legal = obs.pop(MASK)
            obs[MASK if numbered or isinstance(space, Discrete) else "legal"] = legal.ravel() if numbered else legal
        return Outcome(obs, now.reward, last & (now.discount == 0), last & (now.discount != 0))

    def step(state: PyTree, action: Any) -> PyTree:
        return environment.step(state[0], jnp.stack(jnp.unravel_index(action, sizes)) if numbered else action)

    def reset(key: Key) -> PyTree:
        return environment.reset(key)

    return common.env_of(env_id, reset, step, outcome, Discrete(math.prod(sizes)) if numbered else space)


def _action_space(env_id: str, spec: Any) -> Space:
    kind = type(spec).__name__
    if kind == "DiscreteArray":
        return Discrete(int(spec.num_values))
    if kind == "MultiDiscreteArray" and np.ndim(spec.num_values) == 1:
        return MultiDiscrete(tuple(int(n) for n in spec.num_values))
    if kind == "BoundedArray" and jnp.issubdtype(spec.dtype, jnp.floating):
        low, high = (np.broadcast_to(np.asarray(bound), spec.shape) for bound in (spec.minimum, spec.maximum))
        return Box.between(low, high, np.float32)
    raise InputError(f"actions of {env_id} {spec} are not supported; jaxrl takes one integer, several, or a bounded array")
