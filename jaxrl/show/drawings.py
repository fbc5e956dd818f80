"""Drawings of an environment's state, of which a film is made: each is `paint(state, obs, params) -> image`.

An environment's own `EnvSpec.render` comes first; then a grid's tiles; classic control has drawings here; anything else is
drawn from its observation: an image, a position, or bars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw

from jaxrl.core.spaces import Discrete, Product, Space
from jaxrl.core.types import EnvSpec, Grid, PyTree
from jaxrl.show import tiles
from jaxrl.show.tiles import INK, PAPER

WIDTH, HEIGHT = 400, 256
SHARP = 3  # times as large is everything drawn, and then made smaller: that smooths its edges
MARGIN = 8
ACCENT, SECOND, GROUND, GOAL = "#d1495b", "#2e86ab", "#9aa5b1", "#66a182"
BARS = 64  # numbers of an observation that have a bar
LABELLED = 12  # of them that are written below it
ACTIONS = {
    "CartPole-v1": ("push left", "push right"),
    "MountainCar-v0": ("push left", "no push", "push right"),
    "Acrobot-v1": ("torque -1", "torque 0", "torque +1"),
    "Breakout-MinAtar": ("stay", "left", "right"),
    "Freeway-MinAtar": ("stay", "up", "down"),
    "Asterix-MinAtar": ("stay", "left", "up", "right", "down"),
    "SpaceInvaders-MinAtar": ("stay", "left", "right", "fire"),
    "Catch-bsuite": ("left", "stay", "right"),
}
Paint = Callable[[Any, Any, Any], Image.Image]
Point = tuple[float, float]


class Canvas:
    """A picture of WIDTH × HEIGHT pixels with smooth edges. Places are in pixels from its upper left corner."""

    def __init__(self, ground: Image.Image | None = None) -> None:
        """ground: what it is drawn over; the canvas then has its size."""
        size = ground.size if ground else (WIDTH, HEIGHT)
        large = size[0] * SHARP, size[1] * SHARP
        self._image = ground.resize(large, Image.Resampling.NEAREST) if ground else Image.new("RGB", large, PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], colour: str, width: float) -> None:
        """A line through points, with round ends."""
        flat = [(x * SHARP, y * SHARP) for x, y in points]
        self._draw.line(flat, fill=colour, width=round(width * SHARP), joint="curve")
        for end in (points[0], points[-1]):
            self.disc(end, width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: str) -> None:
        """A filled circle."""
        x, y = centre
        self._draw.ellipse([v * SHARP for v in (x - radius, y - radius, x + radius, y + radius)], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Any, radius: float = 0) -> None:
        """A filled rectangle, with round corners where they have a radius; at least a line."""
        x, y = left * SHARP, top * SHARP
        edges = (x, y, max(x, right * SHARP - 1), max(y, bottom * SHARP - 1))
        self._draw.rounded_rectangle(edges, radius * SHARP, fill=colour)

    def polygon(self, points: Sequence[Point], colour: str) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * SHARP, y * SHARP) for x, y in points], fill=colour)

    def text(self, place: Point, text: str, size: int = 11) -> None:
        """A text whose middle is at a place."""
        self._draw.text((place[0] * SHARP, place[1] * SHARP), text, fill=INK, font_size=size * SHARP, anchor="mm")

    @property
    def image(self) -> Image.Image:
        """What was drawn, at its true size."""
        return self._image.reduce(SHARP)


def choose(spec: EnvSpec, states: PyTree, observed: PyTree) -> Paint:
    """How this environment is drawn. states, observed: all of the episode, leaves [T + 1, ...]."""
    space = spec.observation_space
    if spec.render is not None:
        return partial(_own, spec.render)
    if isinstance(space, Discrete):
        columns = math.ceil(math.sqrt(space.n))
        return _walk(spec.grid or Grid(-(-space.n // columns), columns, ()))
    if spec.grid and hasattr(states, "pos"):
        return _walk(spec.grid)
    if spec.id in CLASSIC:
        return partial(_drawn, CLASSIC[spec.id])
    if not isinstance(space, Product) and len(space.shape) in (2, 3):
        return partial(_pixels, float(np.abs(np.asarray(observed, float)).max()))
    if isinstance(space, Product) and (picture := _first_image(space)) is not None:
        largest = float(np.abs(np.asarray(space.parts(observed)[picture], float)).max())
        return partial(_picture, space, picture, largest)
    return partial(_bars, space, np.abs([np.concatenate(_numbers(space, x)) for x in _rows(observed)]).max(0))


def _own(render: Callable[[Any, Any], Any], state: Any, obs: Any, params: Any) -> Image.Image:
    """An environment's own frame: as many times as large as there is room for, or smaller."""
    frame = Image.fromarray(np.asarray(render(state, params), np.uint8)).convert("RGB")
    scale = min(WIDTH / frame.width, HEIGHT / frame.height)
    times = math.floor(scale) if scale >= 1 else scale
    size = max(1, round(frame.width * times)), max(1, round(frame.height * times))
    return frame.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)


def _walk(grid: Grid) -> Paint:
    """A disc on a grid's tiles, where the observation or the state's `pos` says; and one at its `goal`."""
    ground, side = tiles.picture(grid, WIDTH - 2 * MARGIN, HEIGHT - MARGIN)

    def paint(state: Any, obs: Any, params: Any) -> Image.Image:
        canvas = Canvas(ground)
        cell = state.pos if hasattr(state, "pos") else divmod(int(obs), grid.columns)
        for place, inner, outer in ((getattr(state, "goal", None), GOAL, PAPER), (cell, ACCENT, PAPER)):
            if place is not None:
                row, column = (float(x) + 0.5 for x in place)
                canvas.disc((column * side, row * side), 0.34 * side, outer)
                canvas.disc((column * side, row * side), 0.29 * side, inner)
        return canvas.image

    return paint


def _drawn(draw: Callable[[Canvas, Any, Any], None], state: Any, obs: Any, params: Any) -> Image.Image:
    canvas = Canvas()
    draw(canvas, state, params)
    return canvas.image


def _cart_pole(canvas: Canvas, s: Any, p: Any) -> None:
    x, y = 200 + float(s.x) / float(p.x_threshold) * 170, 200
    canvas.line([(12, y + 20), (388, y + 20)], GROUND, 2)
    canvas.box(x - 30, y - 12, x + 30, y + 12, INK, 4)
    for wheel in (x - 18, x + 18):
        canvas.disc((wheel, y + 13), 6, GROUND)
    reach = 280 * float(p.length)
    canvas.line([(x, y - 12), (x + reach * math.sin(float(s.theta)), y - 12 - reach * math.cos(float(s.theta)))], ACCENT, 9)
    canvas.disc((x, y - 12), 4, PAPER)


def _acrobot(canvas: Canvas, s: Any, p: Any) -> None:
    a, b = float(s.joint_angle1), float(s.joint_angle1) + float(s.joint_angle2)
    root = (200.0, 128.0)
    elbow = (root[0] + 60 * math.sin(a), root[1] + 60 * math.cos(a))
    hand = (elbow[0] + 60 * math.sin(b), elbow[1] + 60 * math.cos(b))
    canvas.line([(12, root[1] - 60), (388, root[1] - 60)], GROUND, 2)
    canvas.line([root, elbow], SECOND, 9)
    canvas.line([elbow, hand], ACCENT, 9)
    for joint in (root, elbow):
        canvas.disc(joint, 6, INK)


def _pendulum(canvas: Canvas, s: Any, p: Any) -> None:
    theta, root = float(s.theta), (200.0, 128.0)
    canvas.line([root, (root[0] - 100 * math.sin(theta), root[1] - 100 * math.cos(theta))], ACCENT, 14)
    canvas.disc(root, 5, INK)


def _mountain_car(canvas: Canvas, s: Any, p: Any) -> None:
    low, high = float(p.min_position), float(p.max_position)

    def at(position: float) -> Point:
        return 20 + 360 * (position - low) / (high - low), 235 - 85 * (math.sin(3 * position) + 1)

    canvas.line([at(low + i / 90 * (high - low)) for i in range(91)], GROUND, 3)
    x, y = at(float(p.goal_position))
    canvas.line([(x, y), (x, y - 40)], INK, 2)
    canvas.polygon([(x, y - 41), (x - 20, y - 34), (x, y - 27)], SECOND)
    x, y = at(float(s.position))
    canvas.disc((x, y - 10), 10, ACCENT)


CLASSIC: dict[str, Callable[[Canvas, Any, Any], None]] = {
    "CartPole-v1": _cart_pole,
    "Acrobot-v1": _acrobot,
    "Pendulum-v1": _pendulum,
    "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car,
}
CHANNELS = np.array(
    [[209, 73, 91], [46, 134, 171], [237, 174, 73], [0, 121, 140], [121, 85, 172], [102, 161, 130]], np.float32
)


def _pixels(largest: float, state: Any, obs: Any, params: Any) -> Image.Image:
    """An image as it is (three channels of bytes); else cells coloured by channel, of which a 2-D observation has one."""
    cells = np.asarray(obs).reshape(*obs.shape[:2], -1)
    if cells.dtype == np.uint8 and cells.shape[-1] == 3:
        picture = cells
    else:
        weights = np.clip(cells.astype(np.float32) / max(largest, 1e-9), 0, 1)
        mixed = np.full((*cells.shape[:2], 3), 238, np.float32)
        for channel in range(cells.shape[-1]):
            weight = weights[..., channel, None]
            mixed = mixed * (1 - weight) + CHANNELS[channel % len(CHANNELS)] * weight
        picture = mixed.astype(np.uint8)
    rows, columns = picture.shape[:2]
    side = max(1, min(WIDTH // columns, HEIGHT // rows))
    shown = Image.fromarray(picture).resize((columns * side, rows * side), Image.Resampling.NEAREST)
    if side >= 8:  # lines between cells that are large enough
        draw = ImageDraw.Draw(shown)
        for x in range(0, shown.width, side):
            draw.line((x, 0, x, shown.height), fill=PAPER)
        for y in range(0, shown.height, side):
            draw.line((0, y, shown.width, y), fill=PAPER)
    return shown


def _first_image(space: Product) -> int | None:
    """Which part of an observation is an image; None where none is."""
    shapes = [() if isinstance(part, Product) else part.shape for part in space.spaces]
    return next((i for i, shape in enumerate(shapes) if len(shape) == 3), None)


def _picture(space: Product, part: int, largest: float, state: Any, obs: Any, params: Any) -> Image.Image:
    """One part of an observation, an image."""
    return _pixels(largest, state, np.asarray(space.parts(obs)[part]), params)


def _rows(observed: PyTree) -> list[PyTree]:
    """Each observation of an episode, leaves [T + 1, ...]."""
    return [jax.tree.map(lambda x, t=t: x[t], observed) for t in range(len(jax.tree.leaves(observed)[0]))]


def _numbers(space: Space, obs: PyTree) -> list[np.ndarray]:
    """The numbers of each part of an observation, in the space's order: float [numbers] each."""
    parts = space.parts(obs) if isinstance(space, Product) else (obs,)
    return [np.concatenate([np.ravel(np.asarray(x, float)) for x in jax.tree.leaves(part)]) for part in parts]


def _bars(space: Space, largest: np.ndarray, state: Any, obs: Any, params: Any) -> Image.Image:
    """The numbers of an observation as bars, each by its own largest size in the episode [D], under the names of parts."""
    parts = _numbers(space, obs)
    values = np.concatenate(parts)[:BARS]
    canvas, width, middle = Canvas(), 376 / len(values), 124
    canvas.line([(12, middle), (388, middle)], GROUND, 1)
    for i, value in enumerate(values):
        x, y = 12 + (i + 0.5) * width, middle - 95 * value / max(largest[i], 1e-9)
        half = 0.5 * width - min(3.0, 0.15 * width)
        canvas.box(x - half, min(y, middle), x + half, max(y, middle), SECOND if value >= 0 else ACCENT)
        if len(values) <= LABELLED:
            canvas.text((x, 238), f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}", 11 if len(values) < 10 else 9)
    begin = 0
    for name, part in zip(space.names if isinstance(space, Product) else (), parts, strict=False):
        left, right = (12 + min(i, len(values)) * width for i in (begin, begin + len(part)))
        if right - left > 5 * len(name):  # else it would run into its neighbour
            canvas.text(((left + right) / 2, 14), name, 10)
            canvas.line([(left + 2, 22), (right - 2, 22)], GROUND, 1)
        begin += len(part)
    return canvas.image
