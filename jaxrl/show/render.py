"""Films of a policy: one greedy episode as an animated GIF, from its first observation to the one that ended it."""

from __future__ import annotations

import dataclasses
import functools
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxrl.core import spaces, trees
from jaxrl.core.checks import checked
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.numbers import readable
from jaxrl.core.policy import Policy
from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env, EnvSpec, Key, PyTree, TrainState
from jaxrl.show import drawings, tiles
from jaxrl.show.drawings import ACCENT, HEIGHT, INK, PAPER, WIDTH

CAPTION = 44  # pixels above the drawing
MAX_FRAMES = 200
MAX_SIMULATED = 500  # steps of a simulator on the host, whose frames are all kept
HELD = 1500  # milliseconds for which the end of the episode is shown
NUMBERS = 4  # of an action, in the caption
QUIET = "#5f6c7b"


class Recording(NamedTuple):
    """One episode of T steps: states and observations [T + 1, ...], actions [T, ...], rewards float32 [T].

    end: what ended it: "terminated", "truncated", or "goes on" where it was longer than what was recorded.
    """

    states: PyTree
    obs: PyTree
    actions: PyTree
    rewards: np.ndarray
    end: str


def record(trainer: Trainer, state: TrainState, key: Key, max_steps: int = 1000) -> Recording:
    """One greedy episode, at most `max_steps` long; of simulators on the host, states are what they show, or None.

    Raises ValueError for a VecEnv whose states cannot be told apart, or that cannot be seen.
    """
    if not isinstance(trainer.env, Env):
        if trainer.env.host is None or trainer.env.host.filmed is None:
            raise InputError(f"{trainer.env.spec.id} cannot be recorded: it is a VecEnv without pictures")
        return _recorded_on_host(trainer, state, trainer.env.host.filmed(), key, min(max_steps, MAX_SIMULATED))
    env = checked(trainer.env)
    reset_key, step_key = jax.random.split(key)

    def one(state: TrainState, carry: tuple, key: Key) -> tuple[tuple, tuple]:
        env_state, obs, first, memory, over = carry
        act_key, env_key = jax.random.split(key)
        batch = jax.tree.map(lambda x: x[None], obs)
        action, memory = trainer.agent.greedy(state.hparams, state.agent, memory, batch, first, act_key)
        action = spaces.clip(env.spec.action_space, jax.tree.map(lambda x: x[0], action))
        after, out = env.step(env_key, env_state, action, state.env_params)
        ended = over | out.terminated | out.truncated
        told = (after, out.obs, action, out.reward, out.terminated, over)
        return (after, out.obs, jnp.zeros(1, bool), memory, ended), told

    @jax.jit
    def play(state: TrainState) -> tuple:
        env_state, obs = env.reset(reset_key, state.env_params)
        start = (env_state, obs, jnp.ones(1, bool), trainer.agent.memory(1), jnp.bool_(False))
        (*_, ended), told = jax.lax.scan(partial(one, state), start, jax.random.split(step_key, max_steps))
        states, seen = jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), (env_state, obs), told[:2])
        return ended, states, seen, *told[2:]

    ended, states, obs, actions, rewards, terminated, over = jax.device_get(play(state))
    length = int((~over).sum())
    end = "goes on" if not ended else "terminated" if terminated[length - 1] else "truncated"
    states, obs = jax.tree.map(lambda x: x[: length + 1], (states, obs))
    return Recording(states, obs, jax.tree.map(lambda x: x[:length], actions), rewards[:length], end)


def _recorded_on_host(trainer: Trainer, state: TrainState, simulator: Any, key: Key, max_steps: int) -> Recording:
    """`record` of a simulator as `Host.filmed` makes it."""
    policy, memory = Policy(trainer, state), None
    obs = simulator.reset(np.asarray(jax.random.randint(key, (1,), 0, 2**31 - 1), np.int64))
    frames, seen, end = [_small(simulator.frame())], [trees.member(obs, 0)], "goes on"
    actions: list[Any] = []
    rewards: list[Any] = []
    while end == "goes on" and len(actions) < max_steps:
        action, memory = policy(obs, memory)
        simulator.send(action)
        row = simulator.receive()
        obs, ended = row.obs, bool(row.terminated[0] | row.truncated[0])
        end = "goes on" if not ended else "terminated" if row.terminated[0] else "truncated"
        frames.append(frames[-1] if ended else _small(simulator.frame()))  # what it shows then is the next episode's
        seen.append(trees.member(row.next_obs, 0))
        actions.append(trees.member(action, 0))
        rewards.append(row.reward[0])
    simulator.close()
    frames = [] if frames[0] is None else frames
    states, *rest = (jax.tree.map(lambda *x: np.stack(x), *each) if each else None for each in (frames, seen, actions))
    return Recording(states, *rest, np.array(rewards, np.float32), end)  # type: ignore[arg-type, call-arg]


def _small(frame: np.ndarray | None) -> np.ndarray | None:
    """A simulator's frame, not larger than a film shows it."""
    if frame is None:
        return None
    image = Image.fromarray(frame)
    image.thumbnail((WIDTH, HEIGHT))
    return np.asarray(image)


class Film(NamedTuple):
    """Pictures of an episode, and for how many milliseconds each is shown."""

    frames: list[Image.Image]
    durations: list[int]


def policy_gif(trainer: Trainer, state: TrainState, key: Key, path: Path) -> None:
    """Write the `film` of one greedy episode as a GIF."""
    frames, durations = film(trainer, state, key)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def film(trainer: Trainer, state: TrainState, key: Key, max_frames: int = MAX_FRAMES) -> Film:
    """One greedy episode in at most `max_frames` frames, evenly spaced; the last shows where it ended, for longer."""
    episode, spec, params = record(trainer, state, key), trainer.env.spec, jax.device_get(state.env_params)
    length, totals = len(episode.rewards), np.concatenate([[0.0], np.cumsum(episode.rewards, dtype=float)])
    seen = dataclasses.replace(spec, render=None) if episode.states is None else spec
    paint = drawings.choose(seen, episode.states, episode.obs)
    frames = []
    for i in np.unique(np.linspace(0, length, min(length + 1, max_frames)).round().astype(int)):
        env_state, obs = jax.tree.map(lambda x, i=i: x[i], (episode.states, episode.obs))
        action = episode.end if i == length else action_text(spec, jax.tree.map(lambda x, i=i: x[i], episode.actions))
        facts = f"step {i} of {length}", f"return {readable(totals[i], totals.min(), totals.max())}", action
        frames.append(_captioned(paint(env_state, obs, params), spec.id, facts, i == length))
    return Film(frames, [50 if length > 40 else 200] * (len(frames) - 1) + [HELD])


def action_text(spec: EnvSpec, action: PyTree) -> str:
    """An action as the caption says it: its name where it has one, else its numbers."""
    if isinstance(spec.action_space, Discrete):
        number, names = int(action), drawings.ACTIONS.get(spec.id, ())
        return names[number] if number < len(names) else tiles.action_names(spec.grid, spec.action_space.n)[number]
    values = np.concatenate([np.ravel(np.asarray(x, float)) for x in jax.tree.leaves(action)])
    shown = "  ".join(f"{x:+.2f}" for x in values[:NUMBERS])
    return f"action {shown}{' ...' if len(values) > NUMBERS else ''}"


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _captioned(drawing: Image.Image, name: str, facts: tuple[str, str, str], over: bool) -> Image.Image:
    """The drawing under a caption: the environment; step, return so far and action (or end), each at a place of its own."""
    frame = Image.new("RGB", (WIDTH, CAPTION + HEIGHT), PAPER)
    frame.paste(drawing, ((WIDTH - drawing.width) // 2, CAPTION + (HEIGHT - drawing.height) // 2))
    draw = ImageDraw.Draw(frame)
    draw.text((10, 5), name, fill=QUIET, font=_font(13))
    for x, fact in zip((10, 140, 260), facts, strict=True):
        draw.text((x, 22), fact, fill=ACCENT if over else INK, font=_font(15))
    return frame
