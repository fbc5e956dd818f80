"""Helpers on pytrees of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.types import PyTree


def strong(tree: PyTree) -> PyTree:
    """The same arrays without weak types: a weakly typed leaf would make `jit` trace twice (init, then resume)."""

    def cast(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        return x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(cast, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """`tree` with the dtypes of `like` (arrays or ShapeDtypeStructs of the same structure), strongly typed."""
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype and not x.weak_type else x.astype(y.dtype), tree, like)


def where(mask: jax.Array, x: PyTree, y: PyTree) -> PyTree:
    """Leaf by leaf `x` where `mask`, else `y`; the mask's axes are the leading axes of every leaf."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(pick, x, y)


def member(tree: PyTree, index: int) -> PyTree:
    """One member of a tree whose leaves have a leading member axis."""
    return jax.tree.map(lambda x: x[index], tree)


def flatten_time(tree: PyTree) -> PyTree:
    """[T, N, ...] -> [T * N, ...]: the rows of a rollout in time order, environments in turn."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
