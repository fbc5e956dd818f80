"""Atari 2600 games by ale-py (extra `ale`; its licence is GPL-2.0, so jaxrl does not depend on it).

The defaults are the protocol of Machado et al. 2018 as Gymnasium's `ALE/…-v5` has it: actions are repeated with probability
0.25 (sticky), an episode is a whole game, rewards are as the game gives them. Frames: grey, 84 × 84, the maximum of the last
two of `frame_skip`, the last `stack` of them as channels. Evaluations play whole games for the game's own rewards, whatever
`life_loss` and `clip_rewards` say of training: such returns are what is published.
"""

from __future__ import annotations

import functools
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core.errors import unknown
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import EnvSpec, PyTree, Scores, Stack
from jaxrl.envs.host.pool import RESTART_EVERY, Received, Simulators, check_actions, shown
from jaxrl.envs.parts.libraries import library

SIZE = 84


class AtariPool:
    """N emulators, stepped in threads of ale-py's own."""

    def __init__(self, game: str, width: int, settings: dict[str, Any]) -> None:
        from ale_py.vector_env import AtariVectorEnv

        self._envs = AtariVectorEnv(game, width, autoreset_mode="SameStep", **settings)
        self._actions = int(self._envs.single_action_space.n)  # type: ignore[attr-defined]
        self._newest: Any = None

    def reset(self, seeds: np.ndarray) -> PyTree:
        """New games everywhere."""
        self._newest = _channels_last(self._envs.reset(seed=seeds)[0])
        return self._newest

    def send(self, action: PyTree) -> None:
        """Begin a step. Raises InputError for an action that there is not: ale-py would never answer."""
        check_actions(action, self._actions)
        self._envs.send(np.asarray(action, np.int32))

    def receive(self) -> Received:
        """The step's end."""
        frames, reward, terminated, truncated, info = self._envs.recv()
        obs = last = self._newest = _channels_last(frames)
        if "final_obs" in info:
            ended = (terminated | truncated)[:, None, None, None]
            last = np.where(ended, _channels_last(info["final_obs"]), obs)
        return Received(obs, last, reward.astype(np.float32), terminated, truncated, np.ones_like(terminated))

    def frame(self) -> np.ndarray:
        """The newest frame of the first, grey as the agent sees it, twice as large."""
        return np.repeat(self._newest[0, :, :, -1:].repeat(2, 0).repeat(2, 1), 3, -1)

    def close(self) -> None:
        """End the emulators."""
        self._envs.close()


def _channels_last(frames: np.ndarray) -> np.ndarray:
    """[N, stack, 84, 84] -> [N, 84, 84, stack], copied out of ale-py's buffer."""
    return np.ascontiguousarray(np.moveaxis(frames, 1, -1))


def simulators(
    game: str,
    frame_skip: int = 4,
    stack: int = 4,
    sticky: float = 0.25,
    noop_max: int = 0,
    fire_on_reset: bool = False,
    life_loss: bool = False,
    clip_rewards: bool = False,
    all_actions: bool = False,
    max_frames: int = 108_000,
    threads: int = 0,
    restart_every: int = RESTART_EVERY,
) -> Simulators:
    """Emulators of one game, by its name in lower case with underscores or as in "MsPacman".

    sticky: probability that the emulator repeats the last action for a frame. noop_max: most frames of nothing at a game's
    start. fire_on_reset: press fire then. life_loss: a lost life terminates, in training. clip_rewards: to their sign, in
    training. all_actions: all 18 of the joystick, instead of those the game knows. max_frames: of an episode, then it is
    truncated. threads: of each member; 0 = ale-py's choice. restart_every: see pool.py. Raises InputError for an unknown
    game, or where ale-py is not installed.
    """
    roms = library(f"ale:{game}", "ale_py", "ale").roms
    from ale_py.vector_env import AtariVectorEnv

    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", game).lower()
    if name not in roms.get_all_rom_ids():
        raise unknown("Atari game", game, roms.get_all_rom_ids())
    settings: dict[str, Any] = {
        "frameskip": frame_skip,
        "stack_num": stack,
        "repeat_action_probability": sticky,
        "noop_max": noop_max,
        "use_fire_reset": fire_on_reset,
        "episodic_life": life_loss,
        "reward_clipping": clip_rewards,
        "full_action_space": all_actions,
        "max_num_frames_per_episode": max_frames,
        "num_threads": threads,
    }
    example = AtariVectorEnv(name, 1, **settings)
    actions = int(example.single_action_space.n)  # type: ignore[attr-defined]
    example.close()
    spec = EnvSpec(
        f"ale:{game}",
        Box((SIZE, SIZE, stack), 0, 255, np.uint8),
        Discrete(actions),
        "uint8",
        shown,
        stack=Stack(stack, blank=True),
        scores=scores(name),
    )
    whole = partial(AtariPool, name, settings={**settings, "episodic_life": False, "reward_clipping": False})
    new = partial(AtariPool, name, settings=settings)
    return Simulators(spec, new, partial(whole, 1), restart_every, evaluated=whole)


@functools.cache
def scores(game: str) -> Scores | None:
    """Of a random player and of a person in a game, by its name in lower case with underscores; None where none is known."""
    table = tomllib.loads((Path(__file__).parent / "atari_scores.toml").read_text())
    return Scores(*table[game]) if game in table else None
