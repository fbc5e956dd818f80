"""EnvPool's simulators in C++ (extra `envpool`): Atari, MuJoCo's `-v5` and many more, stepped in threads of its own.

An environment is reset in the step after the one that ended its episode. That row carries no transition: it is not valid.
Evaluations of Atari play whole games for the game's own rewards, whatever `episodic_life` and `reward_clip` say of training.
"""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
import warnings
from typing import Any

import jax
import numpy as np

from jaxrl.core import checks
from jaxrl.core.errors import InputError, unknown
from jaxrl.core.spaces import Box, Product, Space
from jaxrl.core.types import EnvSpec, PyTree, Stack
from jaxrl.envs.host.ale import scores
from jaxrl.envs.host.pool import RESTART_EVERY, Received, Simulators, check_actions, shown
from jaxrl.envs.host.spaces import space_of
from jaxrl.envs.parts.libraries import library

OURS = ("num_envs", "batch_size", "seed", "env_type")  # arguments that the loop gives


class EnvPool:
    """N environments of one id; the id's seeds are given as they are made, so a reset makes them."""

    def __init__(self, spec: EnvSpec, width: int, kwargs: dict[str, Any]) -> None:
        self._name, self._width, self._kwargs = spec.id.partition(":")[2], width, kwargs
        self._like = checks.element(spec.observation_space, (width,))
        self._envs: Any = None
        self._over = np.zeros(width, bool)

    def reset(self, seeds: np.ndarray) -> PyTree:
        """New environments, an episode begun in each."""
        self.close()
        make = library(self._name, "envpool", "envpool").make_gymnasium
        self._envs = make(self._name, num_envs=self._width, seed=seeds.tolist(), **self._kwargs)
        self._over[:] = False
        return self._cast(self._envs.reset()[0])

    def send(self, action: PyTree) -> None:
        """Begin a step. Raises InputError for an action that there is not: C++ would not check it."""
        space = self._envs.action_space
        if hasattr(space, "n"):
            check_actions(action, int(space.n))
        self._envs.send(np.ascontiguousarray(action, space.dtype))

    def receive(self) -> Received:
        """The step's end."""
        obs, reward, terminated, truncated, _ = self._envs.recv()
        seen, valid = self._cast(obs), ~self._over
        self._over = (terminated | truncated) & valid
        reward = np.where(valid, reward, 0).astype(np.float32)
        return Received(seen, seen, reward, terminated & valid, truncated & valid, valid)

    def frame(self) -> np.ndarray | None:
        """What the first environment shows, which was made with render_mode="rgb_array"; None where it cannot be drawn."""
        return np.asarray(self._envs.render()[0], np.uint8) if _draws(self._name) else None

    def close(self) -> None:
        """End the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None

    def _cast(self, obs: PyTree) -> PyTree:
        """Copies, channels last, in the spec's dtypes: EnvPool gives its buffers, and numbers of 64 bits."""
        return jax.tree.map(lambda x, like: np.array(_channels_last(x, like.shape), like.dtype), obs, self._like)


@functools.cache
def _draws(name: str) -> bool:
    """Whether another process can draw the environment: MuJoCo ends its process where it finds no OpenGL."""
    code = f"import envpool; e = envpool.make_gymnasium({name!r}, render_mode='rgb_array'); e.reset(); e.render()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def _channels_last(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x if x.shape == shape else np.moveaxis(x, 1, -1)


def _frames_last(space: Space) -> Space:
    """The space with the channels of frames last, which EnvPool has first: uint8 [C, S, S] with C < S."""
    if isinstance(space, Product):
        return dataclasses.replace(space, spaces=tuple(map(_frames_last, space.spaces)))
    shape = space.shape
    if not isinstance(space, Box) or len(shape) != 3 or space.dtype != np.uint8 or not shape[0] < shape[1] == shape[2]:
        return space
    return dataclasses.replace(space, shape=(*shape[1:], shape[0]))


def _stack(config: Any, frames: Space) -> Stack | None:
    """How Atari's observations follow from grey frames. Not after a lost life: such an episode begins with older frames."""
    if not _atari(config) or config.episodic_life or not isinstance(frames, Box) or frames.shape[-1] != config.stack_num:
        return None
    return Stack(config.stack_num)


def _atari(config: Any) -> bool:
    return "repeat_action_probability" in config._fields


def simulators(name: str, restart_every: int = RESTART_EVERY, **kwargs: Any) -> Simulators:
    """The environments that EnvPool knows by a name, as `envpool:Pong-v5` or `envpool:HalfCheetah-v5`.

    Frames have their channels last. restart_every: see pool.py. kwargs: those of `envpool.make`, and so EnvPool's defaults.
    Raises InputError for an unknown name, for what EnvPool refuses, or without the extra.
    """
    env_id = f"envpool:{name}"
    envpool = library(env_id, "envpool", "envpool")
    if name not in envpool.list_all_envs():
        raise unknown("EnvPool environment", name, envpool.list_all_envs())
    if taken := sorted(set(OURS) & set(kwargs)):
        raise InputError(f"argument {taken[0]} of {env_id} is the loop's")
    with checks.explained(f"making {env_id}", (Exception,)):
        made = envpool.make_spec(name, num_envs=1, **kwargs)
    with warnings.catch_warnings():  # that float64 bounds are those of float32
        warnings.simplefilter("ignore", UserWarning)
        observations = space_of(made.gymnasium_observation_space, f"observation space of {env_id}")
        actions = space_of(made.gymnasium_action_space, f"action space of {env_id}")
    frames = _frames_last(observations)
    known = scores(made.config.task) if _atari(made.config) else None
    spec = EnvSpec(env_id, frames, actions, render=shown, stack=_stack(made.config, frames), scores=known)
    whole = {**kwargs, "episodic_life": False, "reward_clip": False} if _atari(made.config) else kwargs
    return Simulators(
        spec,
        lambda width: EnvPool(spec, width, kwargs),
        lambda: EnvPool(spec, 1, {**whole, "render_mode": "rgb_array"}),
        restart_every,
        evaluated=lambda width: EnvPool(spec, width, whole),
    )
