"""CliffWalking: a goal behind a cliff (Sutton & Barto, 2nd ed., example 6.6).

    . . . . . . . . . . . .
    . . . . . . . . . . . .
    . . . . . . . . . . . .
    S C C C C C C C C C C G

Every step pays -1. A step onto the cliff (C) pays -100 instead and leads back to the start (S), without ending the episode;
the goal (G) ends it; a step out of the grid stays. The shortest path, along the cliff, takes 13 steps.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core.spaces import Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep, Grid, Key

ROWS, COLUMNS = 4, 12
START, GOAL = 36, 47  # the bottom row's corners; cell = 12 · row + column
GRID = Grid(ROWS, COLUMNS, moves=((-1, 0), (0, 1), (1, 0), (0, -1)), tiles=" " * START + "S" + "C" * 10 + "G")


class Params(NamedTuple):
    """max_steps_in_episode: the time limit (truncation), int32."""

    max_steps_in_episode: jax.Array


class State(NamedTuple):
    """cell: where the walker stands, int32 []. time: steps taken, int32 []."""

    cell: jax.Array
    time: jax.Array


def make() -> Env:
    """The walk from the start; actions are up, right, down, left."""

    def reset(key: Key, params: Params) -> tuple[State, jax.Array]:
        del key
        return State(jnp.int32(START), jnp.int32(0)), jnp.int32(START)

    def step(key: Key, state: State, action: jax.Array, params: Params) -> tuple[State, EnvStep]:
        del key  # the walk is deterministic
        down, right = jnp.array(GRID.moves, jnp.int32)[action]
        row = jnp.clip(state.cell // COLUMNS + down, 0, ROWS - 1)
        column = jnp.clip(state.cell % COLUMNS + right, 0, COLUMNS - 1)
        place = row * COLUMNS + column
        fell = (place > START) & (place < GOAL)
        after = State(jnp.where(fell, START, place), state.time + 1)
        reward = jnp.where(fell, jnp.float32(-100), jnp.float32(-1))
        return after, EnvStep(after.cell, reward, place == GOAL, after.time >= params.max_steps_in_episode)

    spec = EnvSpec("CliffWalking", Discrete(ROWS * COLUMNS), Discrete(4), grid=GRID)
    return Env(spec, Params(jnp.int32(500)), reset, step)
