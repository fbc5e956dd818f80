"""Brax's physics in JAX (extra `brax`), as `brax:ant`; meant for accelerators."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.core.errors import unknown
from jaxrl.core.spaces import Box
from jaxrl.core.types import Env, Key, PyTree
from jaxrl.envs.adapters import common
from jaxrl.envs.adapters.common import Outcome
from jaxrl.envs.parts.libraries import library

EPISODE = 1000  # steps, as in Brax's own training


def make(name: str, backend: str = "", episode_length: int = EPISODE, **kwargs: Any) -> Env:
    """The environment that Brax knows by this name.

    backend: generalized, positional, spring or mjx; "" is the environment's own. episode_length: steps after which episodes
    are truncated. kwargs: those of the environment's class. Raises InputError for an unknown name, or without the extra.
    """
    envs = library(f"brax:{name}", "brax.envs", "brax")
    if name not in envs._envs:
        raise unknown("Brax environment", name, envs._envs)
    environment = envs.get_environment(name, **kwargs, **({"backend": backend} if backend else {}))
    return wrap(f"brax:{name}", environment, episode_length)


def wrap(env_id: str, environment: Any, episode_length: int, part: str = "") -> Env:
    """An environment in Brax's manner, whose state holds obs, reward and done, and that knows no end of time.

    part: what of an observation in parts is seen; "": all of it.
    """

    def reset(key: Key) -> PyTree:
        return environment.reset(key), jnp.int32(0)

    def step(state: PyTree, action: Any) -> PyTree:
        return environment.step(state[0], action), state[1] + 1

    def outcome(state: PyTree) -> Outcome:
        now, steps = state
        obs = common.plain(now.obs)
        return Outcome(obs[part] if part else obs, now.reward, now.done != 0, steps >= episode_length)

    return common.env_of(env_id, reset, step, outcome, Box((environment.action_size,), -1.0, 1.0))
