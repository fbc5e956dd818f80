"""Pictures of a policy: one greedy episode as an animated GIF.

An environment's own `EnvSpec.render` draws a frame; classic control has drawings here; anything else is drawn from its
observation (image, grid, position or bars).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxrl.core import spaces
from jaxrl.core.checks import checked
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.core.spaces import Discrete, one_array
from jaxrl.core.types import Env, Key, PyTree, TrainState

SIZE = (400, 300)
MAX_FRAMES = 200
INK, PAPER, ACCENT, SECOND = "#1f2933", "#ffffff", "#d1495b", "#2e86ab"


class Recording(NamedTuple):
    """One episode: states and observations [length, ...] before each action, rewards float32 [length]."""

    states: PyTree
    obs: PyTree
    rewards: np.ndarray


def record(trainer: Trainer, state: TrainState, key: Key, max_steps: int = 1000) -> Recording:
    """One greedy episode, at most `max_steps` long. Raises ValueError for a VecEnv, whose states cannot be told apart."""
    if not isinstance(trainer.env, Env):
        raise InputError("only an Env can be recorded, not a VecEnv")
    env = checked(trainer.env)
    reset_key, step_key = jax.random.split(key)

    def one(state: TrainState, carry: tuple, key: Key) -> tuple[tuple, tuple]:
        env_state, obs, first, memory, over = carry
        act_key, env_key = jax.random.split(key)
        batch = jax.tree.map(lambda x: x[None], obs)
        action, memory = trainer.agent.greedy(state.hparams, state.agent, memory, batch, first, act_key)
        action = jax.tree.map(lambda x: x[0], action)
        after, out = env.step(env_key, env_state, spaces.clip(env.spec.action_space, action), state.env_params)
        ended = over | out.terminated | out.truncated
        return (after, out.obs, jnp.zeros(1, bool), memory, ended), (env_state, obs, out.reward, over)

    @jax.jit
    def play(state: TrainState) -> tuple:
        env_state, obs = env.reset(reset_key, state.env_params)
        start = (env_state, obs, jnp.ones(1, bool), trainer.agent.memory(1), jnp.bool_(False))
        return jax.lax.scan(partial(one, state), start, jax.random.split(step_key, max_steps))[1]

    states, obs, rewards, over = jax.device_get(play(state))
    length = int((~over).sum())
    return Recording(*jax.tree.map(lambda x: x[:length], (states, obs, rewards)))


class Film(NamedTuple):
    """Pictures of an episode, and for how many milliseconds each is shown."""

    frames: list[Image.Image]
    duration: int


def policy_gif(trainer: Trainer, state: TrainState, key: Key, path: Path) -> None:
    """Write the `film` of one greedy episode as a GIF."""
    frames, duration = film(trainer, state, key)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, loop=0)


def film(trainer: Trainer, state: TrainState, key: Key, max_frames: int = MAX_FRAMES) -> Film:
    """One greedy episode in at most `max_frames` frames, evenly spaced, with step and return."""
    episode = record(trainer, state, key)
    spec = trainer.env.spec
    length = len(episode.rewards)
    picked = np.unique(np.linspace(0, length - 1, min(length, max_frames)).round().astype(int))
    totals = np.cumsum(episode.rewards)
    params = jax.device_get(state.env_params)
    frames = []
    for i in picked:
        env_state, obs = jax.tree.map(lambda x, i=i: x[i], (episode.states, episode.obs))
        if spec.render is not None:
            image = Image.fromarray(np.asarray(spec.render(env_state, params), np.uint8)).convert("RGB")
        else:
            image = Image.new("RGB", SIZE, PAPER)
            _drawing(trainer)(ImageDraw.Draw(image), env_state, obs, params)
        text = f"{spec.id}   step {i + 1} of {length}   return {totals[i]:.4g}"
        ImageDraw.Draw(image).text((8, 6), text, fill=INK, stroke_width=2, stroke_fill=PAPER)
        frames.append(image)
    return Film(frames, 50 if length > 40 else 150)


def _drawing(trainer: Trainer) -> Callable[[ImageDraw.ImageDraw, Any, Any, Any], None]:
    spec = trainer.env.spec
    space = one_array(spec.observation_space)
    if spec.id in CLASSIC:
        return CLASSIC[spec.id]
    if isinstance(space, Discrete):
        return partial(_position, space.n)
    if len(space.shape) in (2, 3):
        return _image
    return _bars


def _cart_pole(draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    x, y = 200 + float(s.x) / float(p.x_threshold) * 180, 220
    draw.line((20, y + 12, 380, y + 12), fill="#9aa5b1", width=2)
    draw.rectangle((x - 28, y - 12, x + 28, y + 12), fill=INK)
    reach = 240 * float(p.length)
    tip = (x + reach * math.sin(float(s.theta)), y - 12 - reach * math.cos(float(s.theta)))
    draw.line((x, y - 12, *tip), fill=ACCENT, width=8)
    _disc(draw, (x, y - 12), 5, SECOND)


def _acrobot(draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    a, b = float(s.joint_angle1), float(s.joint_angle1) + float(s.joint_angle2)
    root = (200.0, 150.0)
    elbow = (root[0] + 60 * math.sin(a), root[1] + 60 * math.cos(a))
    hand = (elbow[0] + 60 * math.sin(b), elbow[1] + 60 * math.cos(b))
    draw.line((20, root[1] - 60, 380, root[1] - 60), fill="#9aa5b1", width=2)
    draw.line((*root, *elbow), fill=SECOND, width=8)
    draw.line((*elbow, *hand), fill=ACCENT, width=8)
    for joint in (root, elbow):
        _disc(draw, joint, 6, INK)


def _pendulum(draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    theta = float(s.theta)
    root = (200.0, 155.0)
    draw.line((*root, root[0] - 110 * math.sin(theta), root[1] - 110 * math.cos(theta)), fill=ACCENT, width=14)
    _disc(draw, root, 7, INK)


def _mountain_car(draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    low, high = float(p.min_position), float(p.max_position)

    def at(position: float) -> tuple[float, float]:
        return 20 + 360 * (position - low) / (high - low), 260 - 90 * (math.sin(3 * position) + 1)

    draw.line([at(low + i / 60 * (high - low)) for i in range(61)], fill="#9aa5b1", width=3)
    goal = at(float(p.goal_position))
    draw.line((*goal, goal[0], goal[1] - 40), fill=INK, width=2)
    draw.polygon([(goal[0], goal[1] - 40), (goal[0] + 20, goal[1] - 33), (goal[0], goal[1] - 26)], fill=SECOND)
    x, y = at(float(s.position))
    _disc(draw, (x, y - 9), 10, ACCENT)


CLASSIC: dict[str, Callable[[ImageDraw.ImageDraw, Any, Any, Any], None]] = {
    "CartPole-v1": _cart_pole,
    "Acrobot-v1": _acrobot,
    "Pendulum-v1": _pendulum,
    "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car,
}
CHANNELS = np.array(
    [[209, 73, 91], [46, 134, 171], [237, 174, 73], [0, 121, 140], [121, 85, 172], [102, 161, 130]], np.float32
)


def _image(draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    """Cells coloured by channel; a 2-D observation has one."""
    cells = np.asarray(obs, np.float32).reshape(*obs.shape[:2], -1)
    cells = cells / max(float(np.abs(cells).max()), 1e-9)
    colours = CHANNELS[np.arange(cells.shape[-1]) % len(CHANNELS)]
    image = np.full((*cells.shape[:2], 3), 245, np.float32)
    for channel, colour in enumerate(colours):
        weight = np.clip(cells[..., channel, None], 0, 1)
        image = image * (1 - weight) + colour * weight
    _grid(draw, image.astype(np.uint8))


def _position(n: int, draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    """A discrete observation as one cell of a grid, row by row, square where n is a square."""
    columns = math.isqrt(n) if math.isqrt(n) ** 2 == n else min(n, 10)
    image = np.full((-(-n // columns), columns, 3), 235, np.uint8)
    image[divmod(int(obs), columns)] = (209, 73, 91)
    _grid(draw, image)


def _bars(draw: ImageDraw.ImageDraw, s: Any, obs: Any, p: Any) -> None:
    """A vector observation as bars from zero, squashed by x / (1 + |x|)."""
    values = np.asarray(obs, np.float32).reshape(-1)
    width = 360 / len(values)
    draw.line((20, 160, 380, 160), fill="#9aa5b1")
    for i, value in enumerate(values / (1 + np.abs(values))):
        y = 160 - 110 * float(value)
        left = 22 + i * width
        draw.rectangle((left, min(160.0, y), max(left, left + width - 4), max(160.0, y)), fill=SECOND)


def _grid(draw: ImageDraw.ImageDraw, image: np.ndarray) -> None:
    rows, columns = image.shape[:2]
    side = max(1, min(360 // columns, 250 // rows))
    left, top = (400 - side * columns) // 2, 30
    for (r, c), _ in np.ndenumerate(image[..., 0]):
        x, y = left + c * side, top + r * side
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=tuple(int(v) for v in image[r, c]))


def _disc(draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: str) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
