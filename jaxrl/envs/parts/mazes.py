"""Mazes drawn at random: a room's way to any other is the only one. Pure; `vmap` it over keys.

Rooms are the cells of odd row and column; a passage joins two of them through the cell between. Prim's algorithm on random
weights of the edges gives a spanning tree of the rooms, of least weight.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.types import Key

SIDES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (down, right) of the cell above, right of, below and left of another


class Maze(NamedTuple):
    """A maze of size × size cells within a margin of m more, all wall.

    cells: (wall, red, blue), bool [size + 2 m, size + 2 m, 3]; the exits are coloured floor, the paint is a coloured wall.
    start: row and column without the margin, int32 [2]. goal: the colour of the right exit, 0 for red, 1 for blue, int32 [].
    """

    cells: jax.Array
    start: jax.Array
    goal: jax.Array


def generate(key: Key, size: int, margin: int) -> Maze:
    """A random perfect maze. size: odd, at least 5. margin: at least 1.

    The exits are two dead ends, so that no exit lies on the way to the other. The start is any other room that has a wall
    beside it, of which one is painted: four rooms or more at the border have, and two of them at most are exits.
    """
    places = _places(size // 2) * 2 + 1
    rooms, sides = jnp.asarray(places), jnp.asarray(places[:, None] + np.array(SIDES, np.int32))  # [R, 2], [R, 4, 2]
    count, edges = len(places), len(_edges(size // 2)[0])
    parts = (edges, count, count, len(SIDES), 1)
    noise = jax.random.uniform(key, (sum(parts),), jnp.float32)
    tree, for_exits, for_start, for_side, for_goal = jnp.split(noise, np.cumsum(parts)[:-1])

    free = _carved(tree, size)
    open_sides = free[sides[..., 0], sides[..., 1]]
    ways = open_sides.sum(-1)
    red = _drawn(for_exits, ways == 1)
    blue = _drawn(for_exits, (ways == 1).at[red].set(False))
    start = _drawn(for_start, (ways < len(SIDES)).at[red].set(False).at[blue].set(False))
    paint = sides[start, _drawn(for_side, ~open_sides[start])]
    goal = (for_goal[0] < 0.5).astype(jnp.int32)

    cells = jnp.zeros((size + 2 * margin, size + 2 * margin, 3), bool).at[..., 0].set(True)
    cells = cells.at[margin:-margin, margin:-margin, 0].set(~free)
    for place, colour in ((rooms[red], 1), (rooms[blue], 2), (paint, 1 + goal)):
        cells = cells.at[place[0] + margin, place[1] + margin, colour].set(True)
    return Maze(cells, rooms[start], goal)


def _carved(weights: jax.Array, size: int) -> jax.Array:
    """Which cells are rooms or passages of the spanning tree of least weight, bool [size, size]. weights: float32 [E]."""
    first, second, between = map(jnp.asarray, _edges(size // 2))

    def one(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        inside, free = carry  # rooms of the tree so far, and cells
        edge = _drawn(weights, inside[first] != inside[second])
        inside = inside.at[first[edge]].set(True).at[second[edge]].set(True)
        return inside, free.at[between[edge, 0], between[edge, 1]].set(True)

    rooms = jnp.zeros((size, size), bool).at[1::2, 1::2].set(True)
    inside = jnp.zeros((size // 2) ** 2, bool).at[0].set(True)
    return jax.lax.fori_loop(1, len(inside), one, (inside, rooms))[1]


def _edges(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of neighbours among side × side rooms, by number, and the cell between them: int32 [E], [E] and [E, 2]."""
    number = np.arange(side * side, dtype=np.int32).reshape(side, side)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    place = _places(side)
    return first, second, place[first] + place[second] + 1


def _places(side: int) -> np.ndarray:
    """Row and column of side × side rooms among themselves, int32 [side², 2]."""
    return np.argwhere(np.ones((side, side), bool)).astype(np.int32)


def _drawn(noise: jax.Array, allowed: jax.Array) -> jax.Array:
    """The place of the least noise, float32 [n] in [0, 1), where `allowed`, bool [n]; it must be true somewhere."""
    return jnp.argmin(jnp.where(allowed, noise, 2.0))
