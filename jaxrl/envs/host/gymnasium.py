"""Any registered Gymnasium environment.

Simulators run in this process one after the other, or each in a process of its own. An episode is reset in the step that
ends it, so every row is valid, and next_obs is the observation before the reset.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from jaxrl.core import checks
from jaxrl.core.errors import InputError, unknown
from jaxrl.core.types import EnvSpec, PyTree
from jaxrl.envs.host.pool import RESTART_EVERY, Received, Simulators, shown
from jaxrl.envs.host.spaces import space_of

HANGS = 60.0  # seconds that a step of simulators in processes may take


class GymnasiumPool:
    """N environments of one id. processes: each in one of its own."""

    def __init__(self, make: Any, spec: EnvSpec, width: int, processes: bool) -> None:
        mode, makers = AutoresetMode.SAME_STEP, [make] * width
        self._envs: Any
        if processes:  # not forked: JAX has threads
            self._envs = AsyncVectorEnv(makers, autoreset_mode=mode, context="spawn", shared_memory=True)
        else:
            self._envs = SyncVectorEnv(makers, autoreset_mode=mode)
        self._name, self._processes, self._like = spec.id, processes, checks.element(spec.observation_space, (width,))
        self._action: Any = None

    def reset(self, seeds: np.ndarray) -> PyTree:
        """New episodes everywhere."""
        return self._cast(self._envs.reset(seed=seeds.tolist())[0])

    def send(self, action: PyTree) -> None:
        """Begin a step; without processes `receive` does all of it."""
        like = self._envs.action_space
        self._action = action.astype(like.dtype) if like.dtype is not None else action
        if self._processes:
            self._envs.step_async(self._action)

    def receive(self) -> Received:
        """The step's end."""
        if self._processes:
            try:
                obs, reward, terminated, truncated, info = self._envs.step_wait(timeout=HANGS)
            except TimeoutError as error:  # of multiprocessing, which says nothing
                raise InputError(f"{self._name} gives no answer for {HANGS:.0f} s") from error
        else:
            obs, reward, terminated, truncated, info = self._envs.step(self._action)
        after = self._cast(obs)
        before = jax.tree.map(np.copy, after)
        for i in np.flatnonzero(terminated | truncated):
            jax.tree.map(lambda whole, last, i=i: whole.__setitem__(i, last), before, info["final_obs"][i])
        return Received(after, before, reward.astype(np.float32), terminated, truncated, np.ones_like(terminated))

    def frame(self) -> np.ndarray | None:
        """What the first environment shows, which was made with render_mode="rgb_array"; None without what it draws with."""
        try:
            return np.asarray(self._envs.render()[0], np.uint8)
        except gymnasium.error.DependencyNotInstalled:  # pygame, say
            return None

    def close(self) -> None:
        """End the environments, and their processes."""
        self._envs.close()

    def _cast(self, obs: PyTree) -> PyTree:
        """Copies in the spec's dtypes: Gymnasium has float64 and int64 where we have float32 and int32."""
        return jax.tree.map(lambda x, like: np.array(x, like.dtype), obs, self._like)


def simulators(env_id: str, processes: bool = False, restart_every: int = RESTART_EVERY, **kwargs: Any) -> Simulators:
    """The environments of a Gymnasium id.

    processes: each in a process of its own. restart_every: see pool.py. kwargs: those of `gymnasium.make`. Raises InputError
    for what it refuses.
    """
    if env_id not in gymnasium.registry:
        raise unknown("Gymnasium environment", env_id, gymnasium.registry)
    make = partial(gymnasium.make, env_id, **kwargs)
    name = f"gymnasium:{env_id}"
    with checks.explained(f"making {name}", (Exception,)):
        example = make()
        drawn = "rgb_array" in example.metadata.get("render_modes", [])
    spec = EnvSpec(
        name,
        space_of(example.observation_space, f"observation space of {name}"),
        space_of(example.action_space, f"action space of {name}"),
        render=shown if drawn else None,
    )
    example.close()
    filmed = (lambda: GymnasiumPool(partial(make, render_mode="rgb_array"), spec, 1, False)) if drawn else None
    return Simulators(spec, lambda width: GymnasiumPool(make, spec, width, processes), filmed, restart_every)
