"""MuJoCo Playground's robots in JAX (extra `playground`), as `playground:CartpoleBalance`; meant for accelerators."""

from __future__ import annotations

from typing import Any

import jax

from jaxrl.core.errors import unknown
from jaxrl.core.types import Env
from jaxrl.envs.adapters import brax, common
from jaxrl.envs.parts.libraries import library


def make(name: str, episode_length: int = 0, privileged: bool = False, impl: str = "jax", **overrides: Any) -> Env:
    """The environment that Playground knows by this name; of its robots' models some are downloaded at first use.

    episode_length: steps after which episodes are truncated; 0: what its configuration says. privileged: where observations
    have several parts, all of them instead of `state`, what the robot itself knows. impl: of the physics; with "warp" states
    have parts that `vmap` does not batch, so that the loop cannot reset one of them. overrides: of the configuration. Raises
    InputError for an unknown name, or without the extra.
    """
    env_id = f"playground:{name}"
    registry = library(env_id, "mujoco_playground", "playground").registry
    if name not in registry.ALL_ENVS:
        raise unknown("Playground environment", name, registry.ALL_ENVS)
    defaults = registry.get_default_config(name)
    environment = registry.load(name, config_overrides=overrides | ({"impl": impl} if "impl" in defaults else {}))
    with common.lenient():
        obs = jax.eval_shape(environment.reset, jax.random.key(0)).obs
    part = "state" if not privileged and hasattr(obs, "keys") and "state" in obs else ""
    return brax.wrap(env_id, environment, episode_length or int(defaults.episode_length), part)
