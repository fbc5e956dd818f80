"""The other way round: a jaxrl environment for libraries that want Gymnasium's interface."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxrl.core.checks import checked, element
from jaxrl.core.spaces import Space
from jaxrl.core.types import Env, PyTree
from jaxrl.core.vectorize import vectorize
from jaxrl.envs.host.spaces import gymnasium_space


class GymnasiumEnv(gymnasium.Env):
    """An `Env` as a `gymnasium.Env`: each step is one call of a compiled program. params: the environment's own by default.

    Frames (`render_mode="rgb_array"`) are those of `spec.render`, where it has one. Observations are NumPy arrays.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, env: Env, params: PyTree = None, render_mode: str | None = None) -> None:
        self._env, self._params = env, env.params if params is None else params
        self.observation_space = gymnasium_space(env.spec.observation_space)
        self.action_space = gymnasium_space(env.spec.action_space)
        self.render_mode = render_mode
        self._reset, self._step = jax.jit(checked(env).reset), jax.jit(checked(env).step)
        self._state: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode: (obs, {}). seed: begins the random numbers anew; without one they go on."""
        super().reset(seed=seed)
        self._state, obs = self._reset(_next_key(self), self._params)
        return _numpy(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """(obs, reward, terminated, truncated, metrics), before any reset."""
        action = _like(self._env.spec.action_space, action)
        self._state, out = self._step(_next_key(self), self._state, action, self._params)
        metrics = {name: float(x) for name, x in out.metrics.items()}
        obs = _numpy(out.obs)
        return obs, float(out.reward), bool(out.terminated), bool(out.truncated), metrics

    def render(self) -> Any:
        """The frame, uint8 [H, W, 3]; None without a render mode, or where the environment draws none."""
        if self.render_mode is None or self._env.spec.render is None:
            return None
        return self._env.spec.render(self._state, self._params)


class GymnasiumVectorEnv(VectorEnv):
    """`num_envs` copies of an `Env` as a `gymnasium.vector.VectorEnv`, one compiled program a step.

    Episodes are reset in the step that ends them; `info["final_obs"]` is an array [num_envs, ...], true where
    `info["_final_obs"]` is.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, env: Env, num_envs: int, params: PyTree = None) -> None:
        vec = vectorize(env, num_envs, num_envs)
        self.num_envs, self._spec, self._params = num_envs, env.spec, env.params if params is None else params
        self.single_observation_space = gymnasium_space(env.spec.observation_space)
        self.single_action_space = gymnasium_space(env.spec.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._init = jax.jit(vec.init)
        self._state: Any = None

        def step(key: jax.Array, state: PyTree, action: PyTree, params: PyTree) -> Any:
            pool_key, step_key = jax.random.split(key)
            state, obs, _, out = vec.step(
                jax.random.split(step_key, num_envs), state, vec.prepare(pool_key, params), action, params
            )
            return state, obs, out

        self._step = jax.jit(step)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes everywhere: (obs [num_envs, ...], {})."""
        super().reset(seed=seed)
        self._state, obs = self._init(_next_key(self), self._params)
        return _numpy(obs), {}

    def step(self, actions: Any) -> tuple[Any, ...]:
        """(obs after resets, reward, terminated, truncated, info), arrays [num_envs, ...]."""
        action = _like(self._spec.action_space, actions, (self.num_envs,))
        self._state, obs, out = self._step(_next_key(self), self._state, action, self._params)
        reward, terminated, truncated = jax.device_get((out.reward, out.terminated, out.truncated))
        ended = terminated | truncated
        info = {"final_obs": _numpy(out.obs), "_final_obs": ended} if ended.any() else {}
        return _numpy(obs), reward, terminated, truncated, info


def _next_key(env: gymnasium.Env | VectorEnv) -> jax.Array:
    """A key from the random numbers that `reset(seed=...)` begins anew."""
    return jax.random.key(int(env.np_random.integers(2**31)))


def _numpy(obs: PyTree) -> PyTree:
    """Observations as Gymnasium has them: on the host, and booleans as its MultiBinary."""
    return jax.tree.map(lambda x: x.astype(np.int8) if x.dtype == bool else x, jax.device_get(obs))


def _like(space: Space, action: Any, batch: tuple[int, ...] = ()) -> PyTree:
    """Gymnasium's action in our dtypes."""
    return jax.tree.map(lambda like, x: np.asarray(x, like.dtype), element(space, batch), action)
