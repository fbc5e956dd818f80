"""MazeNavigation: find the exit of the right colour from pixels; the colour was shown at the start only.

A maze has a red and a blue exit. Next to the start a wall is painted in the colour of the right one (+1); the other one is
wrong (`wrong_reward`). Both end the episode. The agent sees the 5 × 5 cells around it and steps up, right, down or left; a
step into a wall stays. Every step costs `step_cost`.

An episode's maze is one of the drawings below, mirrored or not, with either exit red and either exit right. In each of them
a cell, out of sight of the paint, has to be passed on the way to the exits, beyond which the paint is not seen again. So a
policy without memory cannot take the right exit in more than half of the episodes, and one that remembers a single bit can
take it in all: the view alone tells which way leads on, and shows both exits at once where the ways to them part.
The best mean returns are 0.434, by a guess, and 0.984. (With a `wrong_reward` below about -0.2, to stay until the time limit
after one of the colours would beat a guess.)
Turned mazes take more memory: there a view does not tell the way on from the way back.

Observation: float32 0 or 1, [row, column, (wall, red, blue)], the agent's own cell in the middle; outside is wall.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key

# Six mazes side by side: "#" wall, "." floor, "S" start, "C" the painted wall, "A" and "B" exits
DRAWINGS = """
######### ######### ######### ######### ######### #########
##A...B## ######### ##A...B## ####A#### ##A...B## ###A...B#
####.#### ######### ####.#### ####.#### ####.#### #####.###
####.#### ##A...B## ####.#### ####..B## ####.#### #####..##
####.#### ####.#### ##...#### ####.#### ##.....## ######.##
####.#### ####.#### ##.###### ####.#### ####.#### ####...##
####.#### ####.#### ##.###### ####.#### ####.#### ####.####
####S#### ####S#### ##S###### ####S#### ####S#### ####S####
####C#### ####C#### ##C###### ####C#### ####C#### ####C####
"""
VIEW, SIGHT, SIDE = 5, 2, 9  # cells seen; cells seen on each side; cells of a maze's side
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (down, right) of up, right, down, left
PIXELS = 32  # of a drawn cell


class Params(NamedTuple):
    """step_cost: of every step, float32. wrong_reward: at the wrong exit, float32.

    max_steps_in_episode: the time limit (truncation), int32.
    """

    step_cost: jax.Array
    wrong_reward: jax.Array
    max_steps_in_episode: jax.Array


class State(NamedTuple):
    """maze: which one, int32 []. position: row and column, int32 [2]. time: steps taken, int32 []."""

    maze: jax.Array
    position: jax.Array
    time: jax.Array


class Mazes(NamedTuple):
    """All mazes, the upright ones first. cells: (wall, red, blue), `SIGHT` cells of wall around, bool [M, 13, 13, 3].

    start: int32 [M, 2]. goal: the colour of the right exit, 0 for red, 1 for blue, int32 [M]. Mazes 2 i and 2 i + 1 differ
    in nothing else.
    """

    cells: np.ndarray
    start: np.ndarray
    goal: np.ndarray


def _maze(drawing: np.ndarray, red: str, goal: int) -> tuple[np.ndarray, np.ndarray, int]:
    """One maze out of its letters [9, 9], with the exit `red` red."""
    blue = "AB".replace(red, "")
    cells = np.stack([np.isin(drawing, ["#", "C"]), drawing == red, drawing == blue], -1)
    cells[drawing == "C", 1 + goal] = True
    outside = np.pad(cells, ((SIGHT, SIGHT), (SIGHT, SIGHT), (0, 0)))
    outside[..., 0] = np.pad(cells[..., 0], SIGHT, constant_values=True)
    return outside, np.argwhere(drawing == "S")[0], goal


def _mazes() -> Mazes:
    drawings = [np.array(list(map(list, rows))) for rows in zip(*map(str.split, DRAWINGS.split("\n")[1:-1]), strict=True)]
    turned = [np.rot90(side, turn) for turn in range(4) for d in drawings for side in (d, d[:, ::-1])]
    cells, start, goal = zip(*[_maze(d, red, goal) for d in turned for red in "AB" for goal in (0, 1)], strict=True)
    return Mazes(np.stack(cells), np.stack(start).astype(np.int32), np.array(goal, np.int32))


MAZES = _mazes()


def make(turned: bool = False) -> Env:
    """The mazes; actions are up, right, down, left. turned: by any quarters, or else all upright, with the start below."""
    cells, start, goal = map(jnp.asarray, MAZES)
    count = len(MAZES.goal) if turned else len(MAZES.goal) // 4

    def observe(state: State) -> jax.Array:
        corner = (state.maze, *state.position, jnp.int32(0))  # with the margin of `SIGHT`, the window's corner
        return jax.lax.dynamic_slice(cells, corner, (1, VIEW, VIEW, 3))[0].astype(jnp.float32)

    def reset(key: Key, params: Params) -> tuple[State, jax.Array]:
        maze = jax.random.randint(key, (), 0, count, jnp.int32)
        state = State(maze, start[maze], jnp.int32(0))
        return state, observe(state)

    def step(key: Key, state: State, action: jax.Array, params: Params) -> tuple[State, EnvStep]:
        del key  # the walk is deterministic
        ahead = state.position + jnp.array(MOVES, jnp.int32)[action]
        tile = cells[state.maze, ahead[0] + SIGHT, ahead[1] + SIGHT]
        wall, colours = tile[0], tile[1:]
        after = State(state.maze, jnp.where(wall, state.position, ahead), state.time + 1)
        out_of_it = colours.any() & ~wall
        prize = jnp.where(colours[goal[state.maze]], 1.0, params.wrong_reward)
        reward = jnp.where(out_of_it, prize, 0.0) - params.step_cost
        return after, EnvStep(observe(after), reward, out_of_it, after.time >= params.max_steps_in_episode)

    spec = EnvSpec("MazeNavigation", Box((VIEW, VIEW, 3), 0.0, 1.0), Discrete(4), storage_dtype="bool", render=_frame)
    return Env(spec, Params(jnp.float32(0.002), jnp.float32(-0.1), jnp.int32(100)), reset, step)


def _frame(state: State, params: Params) -> np.ndarray:
    """The maze from above, what the agent does not see darker, under a margin for the caption: uint8 [H, W, 3]."""
    wall, red, blue = np.moveaxis(MAZES.cells[int(state.maze)], -1, 0)
    colours = np.full((*wall.shape, 3), 240.0)
    colours[wall] = grey = 120, 125, 135
    colours[red], colours[blue] = (209, 73, 91), (46, 134, 171)
    framed = np.where(wall[..., None], grey, colours)  # paint does not fill its wall, as an exit does its cell
    row, column = (int(x) for x in state.position)
    unseen = np.ones((*wall.shape, 1), bool)
    unseen[row : row + VIEW, column : column + VIEW] = False
    inner, outer = (
        (x * np.where(unseen, 0.6, 1.0)).astype(np.uint8).repeat(PIXELS, 0).repeat(PIXELS, 1) for x in (colours, framed)
    )
    within = np.abs(np.indices(outer.shape[:2]) % PIXELS - PIXELS // 2).max(0) < PIXELS // 4
    picture = np.where(within[..., None], inner, outer)
    centre = (np.array([row, column]) + SIGHT) * PIXELS + PIXELS // 2
    distance = np.hypot(*(np.indices(picture.shape[:2]) - centre[:, None, None]))
    picture[distance < 0.36 * PIXELS] = 237, 174, 73
    picture[::PIXELS], picture[:, ::PIXELS] = picture[::PIXELS] * 0.85, picture[:, ::PIXELS] * 0.85
    inside = slice((SIGHT - 1) * PIXELS, (SIGHT + SIDE + 1) * PIXELS)  # a border of one cell is enough
    return np.pad(picture[inside, inside], ((24, 0), (0, 0), (0, 0)), constant_values=255)
