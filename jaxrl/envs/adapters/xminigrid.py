"""XLand-MiniGrid's grid worlds in JAX (extra `xminigrid`), as `xminigrid:MiniGrid-Empty-8x8`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import unknown
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, Key, PyTree
from jaxrl.envs.adapters import common
from jaxrl.envs.adapters.common import Outcome
from jaxrl.envs.parts.libraries import library


def make(name: str, one_hot: bool = True, **params: Any) -> Env:
    """The grid world registered by this name.

    one_hot: each cell in view as a tile's and a colour's one-hot vectors, bool [view, view, tiles + colours], for
    convolutions (torso minatar); else their two numbers. params: of its EnvParams, as view_size = 5. Raises InputError for
    an unknown name, or without the extra.
    """
    env_id = f"xminigrid:{name}"
    worlds = library(env_id, "xminigrid", "xminigrid")
    constants = library(env_id, "xminigrid.core.constants", "xminigrid")
    if name not in worlds.registered_environments():
        raise unknown("XLand-MiniGrid environment", name, worlds.registered_environments())
    environment, defaults = worlds.make(name, **params)
    tiles, colours = constants.NUM_TILES, constants.NUM_COLORS

    def outcome(state: PyTree) -> Outcome:
        cells, last = state.observation, state.step_type == 2
        if one_hot:
            kinds = jax.nn.one_hot(cells[..., 0], tiles, dtype=bool), jax.nn.one_hot(cells[..., 1], colours, dtype=bool)
            cells = jnp.concatenate(kinds, -1)
        return Outcome(cells, state.reward, last & (state.discount == 0), last & (state.discount != 0))

    def reset(key: Key) -> PyTree:
        return environment.reset(defaults, key)

    def step(state: PyTree, action: Any) -> PyTree:
        return environment.step(defaults, state, action)

    def render(state: PyTree, params: PyTree) -> np.ndarray:
        return np.asarray(environment.render(defaults, state), np.uint8)

    view = environment.observation_shape(defaults)
    space = Box((*view[:2], tiles + colours), 0, 1, np.dtype(bool)) if one_hot else Box(tuple(view), 0, 255, np.uint8)
    return common.env_of(env_id, reset, step, outcome, Discrete(environment.num_actions(defaults)), space, render=render)
