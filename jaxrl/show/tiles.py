"""The tiles of a grid world: the ground of a picture of its values, and of a film in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxrl.core.types import Grid
from jaxrl.show import plot

INK, PAPER, PLAIN = "#1f2933", "#ffffff", "#e9eff5"
COLOURS = {"S": "#b9d3ea", "G": "#66a182", "C": "#6b4f3f", "W": "#78818c", "H": "#e9eff5"}  # start, goal, cliff, wall, hole
HOLE = "#27455c"  # of the disc on its tile
DIRECTIONS = {(-1, 0): "up", (0, 1): "right", (1, 0): "down", (0, -1): "left"}
DPI = 100
SMALLEST = 7  # letter


def action_names(grid: Grid | None, num_actions: int) -> list[str]:
    """How actions are called: by their direction on a grid, else by number."""
    moves = grid.moves if grid else ()
    return [DIRECTIONS.get(moves[a], f"action {a}") if a < len(moves) else f"action {a}" for a in range(num_actions)]


def colours(grid: Grid, plain: str = PLAIN) -> list[str]:
    """Each cell's colour by the letter of its tile; `plain` for a letter that has none."""
    return [COLOURS.get(tile, plain) for tile in grid.tiles.ljust(grid.rows * grid.columns)]


def draw(ax: Any, grid: Grid, faces: Sequence[Any], side: float) -> None:
    """Draw cells of these colours, one each, with lines between them and the tiles' letters. side: of a cell, in inches."""
    from matplotlib.colors import to_rgb

    shown = np.array([to_rgb(face) for face in faces])
    ax.imshow(shown.reshape(grid.rows, grid.columns, 3))
    ax.set(xticks=[], yticks=[])
    ax.set_xticks(np.arange(grid.columns - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(grid.rows - 1) + 0.5, minor=True)
    ax.grid(which="minor", color=PAPER, linewidth=1)
    ax.tick_params(which="both", length=0)
    for s, tile in enumerate(grid.tiles):
        row, column = divmod(s, grid.columns)
        if tile == "H":
            ax.plot(column, row, "o", color=HOLE, markersize=0.62 * 72 * side, markeredgewidth=0)
        if tile.strip() and tile not in "FW.":
            style = {
                "fontsize": max(11 * side, SMALLEST),
                "va": "top",
                "ha": "left",
                "weight": "bold",
                "color": legible(shown[s]),
            }
            ax.text(column - 0.42, row - 0.42, tile, **style)


def picture(grid: Grid, width: int, height: int) -> tuple[Image.Image, int]:
    """The tiles as an image of at most this size, and how many pixels a cell's side has."""
    pixels = max(2, min(width // grid.columns, height // grid.rows))
    side = pixels / DPI
    fig = plot.pyplot().figure(figsize=(side * grid.columns, side * grid.rows), dpi=DPI)
    draw(fig.add_axes((0, 0, 1, 1), frameon=False), grid, colours(grid), side)
    fig.canvas.draw()
    image = Image.fromarray(np.asarray(fig.canvas.buffer_rgba())).convert("RGB")
    plot.pyplot().close(fig)
    return image, pixels


def legible(colour: Sequence[float]) -> str:
    """Ink or paper, whichever stands out from a colour (red, green, blue, each 0 to 1)."""
    red, green, blue = colour[:3]
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else PAPER
