"""A tree of sums: draws an index in proportion to its weight, and changes weights, in O(log capacity).

Each node sums `FANOUT` children. A wide tree is a shallow one: four levels for 65,536 weights, so that a batch costs four
gathers of [B, FANOUT] instead of sixteen of [B, 2].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

FANOUT = 16

Tree = tuple[jax.Array, ...]
"""Levels float32 [multiple of FANOUT], the weights first, each next one the sums of FANOUT; the last holds FANOUT."""


def init(size: int) -> Tree:
    """A tree of `size` weights, all 0."""
    levels: list[jax.Array] = []
    while not levels or len(levels[-1]) > FANOUT:
        size = -(-size // FANOUT)
        levels.append(jnp.zeros(size * FANOUT, jnp.float32))
    return tuple(levels)


def total(tree: Tree) -> jax.Array:
    """The sum of all weights: float32 []."""
    return tree[-1].sum()


def assign(tree: Tree, index: jax.Array, weight: jax.Array) -> Tree:
    """The tree with `weight` float32 [M] ≥ 0 at `index` int32 [M]; equal indices must bring equal weights.

    Sums are taken anew from the children, so that rounding does not pile up.
    """
    levels = []
    for level in tree:
        level = level.at[index].set(weight)
        levels.append(level)
        index = index // FANOUT
        weight = level.reshape(-1, FANOUT)[index].sum(-1)
    return tuple(levels)


def find(tree: Tree, mass: jax.Array) -> jax.Array:
    """The index at which the running sum of weights passes `mass` float32 [B] in [0, total): int32 [B].

    Where rounding leads past the end of a node, its last child of positive weight is taken: a weight of 0 is never found
    unless all are 0.
    """
    index = jnp.zeros(mass.shape, jnp.int32)
    for level in reversed(tree):
        children = level.reshape(-1, FANOUT)[index]  # [B, FANOUT]
        upto = jnp.cumsum(children, -1)
        fits = (upto > mass[:, None]) & (children > 0)
        last = FANOUT - 1 - jax.lax.argmax((children > 0)[:, ::-1], 1, jnp.int32)
        child = jnp.where(fits.any(-1), jax.lax.argmax(fits, 1, jnp.int32), last)
        chosen = jax.nn.one_hot(child, FANOUT, dtype=bool)
        mass = jnp.maximum(mass - jnp.where(chosen, upto - children, 0.0).sum(-1), 0.0)
        index = index * FANOUT + child
    return index
