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

With a `size` mazes are generated instead, one for each level: its number decides the maze, the start, the exits, their
colours and which is right, as in Procgen (Cobbe et al. 2020). Exits are dead ends, and the way to each is the only one. The
paint may be in sight of an exit. An episode draws its level from `num_levels` ones; a level for training is none for
validation or test (`EnvSpec.splits`), so that returns which differ between them tell what was learnt by heart. Observations
are the same in mazes of any size.

Observation: float32 0 or 1, [row, column, (wall, red, blue)], the agent's own cell in the middle; outside is wall.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.core.settings import NonNegative, check
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key, Split
from jaxrl.envs.parts import mazes

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
VIEW, SIGHT = 5, 2  # cells seen; cells seen on each side
MOVES = mazes.SIDES  # of up, right, down, left
PIXELS = 32  # of a drawn cell
FIRST: dict[str, int] = {"train": 0, "validation": 2**29, "test": 2**30}  # level of each split
LAST = 2**31 - 2  # level of the test


class Params(NamedTuple):
    """step_cost: of every step, float32. wrong_reward: at the wrong exit, float32.

    max_steps_in_episode: the time limit (truncation), int32.
    """

    step_cost: jax.Array
    wrong_reward: jax.Array
    max_steps_in_episode: jax.Array


class LevelParams(NamedTuple):
    """Of generated mazes: the first three as in `Params`.

    first_level, num_levels: an episode's level is one of first_level, ..., first_level + num_levels - 1, int32; 0: of all
    from first_level on. Levels beyond those of first_level's split are left out.
    """

    step_cost: jax.Array
    wrong_reward: jax.Array
    max_steps_in_episode: jax.Array
    first_level: jax.Array
    num_levels: jax.Array


class State(NamedTuple):
    """maze: which one, int32 []. position: row and column, int32 [2]. time: steps taken, int32 []."""

    maze: jax.Array
    position: jax.Array
    time: jax.Array


class LevelState(NamedTuple):
    """Of a generated maze: its level, int32 [], and what that is; see `mazes.Maze`, which has a margin of `SIGHT` cells.

    position: row and column, int32 [2]. time: steps taken, int32 [].
    """

    level: jax.Array
    cells: jax.Array
    goal: jax.Array
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


def make(turned: bool = False, size: int = 0) -> Env:
    """The mazes; actions are up, right, down, left.

    turned: the drawings by any quarters, or else all upright, with the start below. size: 0 for the drawings; else the cells
    of a generated maze's side, odd and at least 5. Raises ValueError.
    """
    size = check("size", size, Annotated[int, NonNegative])
    if size:
        return _generated(turned, size)
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
        reward, out_of_it = _outcome(tile, goal[state.maze], params)
        after = State(state.maze, jnp.where(tile[0], state.position, ahead), state.time + 1)
        return after, EnvStep(observe(after), reward, out_of_it, after.time >= params.max_steps_in_episode)

    return Env(SPEC, Params(jnp.float32(0.002), jnp.float32(-0.1), jnp.int32(100)), reset, step)


def _generated(turned: bool, size: int) -> Env:
    """Mazes of a level each. Their time limit is enough to look into every dead end and come back."""
    if turned:
        raise InputError("turned is of the drawings: leave it, or size")
    if size < 5 or size % 2 == 0:
        raise InputError(f"size = {size} must be 0, or odd and at least 5")

    def observe(state: LevelState) -> jax.Array:
        corner = (*state.position, jnp.int32(0))
        return jax.lax.dynamic_slice(state.cells, corner, (VIEW, VIEW, 3)).astype(jnp.float32)

    def reset(key: Key, params: LevelParams) -> tuple[LevelState, jax.Array]:
        level = _level(key, params)
        maze = mazes.generate(jax.random.key(level, impl="threefry2x32"), size, SIGHT)
        state = LevelState(level, maze.cells, maze.goal, maze.start, jnp.int32(0))
        return state, observe(state)

    def step(key: Key, state: LevelState, action: jax.Array, params: LevelParams) -> tuple[LevelState, EnvStep]:
        del key  # the walk is deterministic
        ahead = state.position + jnp.array(MOVES, jnp.int32)[action]
        tile = state.cells[ahead[0] + SIGHT, ahead[1] + SIGHT]
        reward, out_of_it = _outcome(tile, state.goal, params)
        after = state._replace(position=jnp.where(tile[0], state.position, ahead), time=state.time + 1)
        return after, EnvStep(observe(after), reward, out_of_it, after.time >= params.max_steps_in_episode)

    limit = jnp.int32(max(100, size * size))
    params = LevelParams(jnp.float32(0.002), jnp.float32(-0.1), limit, jnp.int32(0), jnp.int32(0))
    return Env(dataclasses.replace(SPEC, splits=_splits), params, reset, step)


def _level(key: Key, params: LevelParams) -> jax.Array:
    """An episode's level, int32 []."""
    first = jnp.maximum(params.first_level, 0)
    bounds = jnp.array([FIRST["validation"], FIRST["test"], LAST + 1], jnp.int32)
    most = bounds[(first >= bounds[:2]).sum()] - first
    count = jnp.where(params.num_levels > 0, jnp.minimum(params.num_levels, most), most)
    return first + jax.random.randint(key, (), 0, count, jnp.int32)


def _splits(params: LevelParams, split: Split) -> LevelParams:
    """Training sees the levels that `params` say; validation and test draw from all of theirs."""
    if split == "train":
        return params
    return params._replace(first_level=jnp.int32(FIRST[split]), num_levels=jnp.int32(0))


def _outcome(tile: jax.Array, goal: jax.Array, params: Params | LevelParams) -> tuple[jax.Array, jax.Array]:
    """The reward of a step to `tile` (wall, red, blue), bool [3], and whether it is an exit."""
    wall, colours = tile[0], tile[1:]
    out_of_it = colours.any() & ~wall
    prize = jnp.where(colours[goal], 1.0, params.wrong_reward)
    return jnp.where(out_of_it, prize, 0.0) - params.step_cost, out_of_it


def _frame(state: State | LevelState, params: Params | LevelParams) -> np.ndarray:
    """The maze from above, what the agent does not see darker, under a margin for the caption: uint8 [H, W, 3]."""
    cells = np.asarray(state.cells) if isinstance(state, LevelState) else MAZES.cells[int(state.maze)]
    wall, red, blue = np.moveaxis(cells, -1, 0)
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
    inside = slice((SIGHT - 1) * PIXELS, (len(wall) - SIGHT + 1) * PIXELS)  # a border of one cell is enough
    return np.pad(picture[inside, inside], ((24, 0), (0, 0), (0, 0)), constant_values=255)


SPEC = EnvSpec("MazeNavigation", Box((VIEW, VIEW, 3), 0.0, 1.0), Discrete(4), storage_dtype="bool", render=_frame)
