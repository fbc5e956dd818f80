"""Helpers on pytrees of arrays, and dataclasses that are pytrees."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.types import PyTree

static: Any = functools.partial(dataclasses.field, metadata={"static": True})
T = TypeVar("T")
NUMBERS: dict[type, Any] = {bool: jnp.bool_, int: jnp.int32, float: jnp.float32}
ENVS = "envs"  # the axis of the devices that share one member


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def pytree(cls: type[T], eq: bool = False) -> type[T]:
    """Class decorator: a frozen dataclass registered as a pytree. Fields made by `static` are part of its structure.

    eq: whether to compare by value, which arrays cannot.

    Not by `register_dataclass`: in JAX 0.10.2 structures of such trees are equal whatever their class, so that now and then
    (where hashes collide) a jitted function runs the program it has for another class with as many leaves.
    """
    cls = dataclasses.dataclass(frozen=True, eq=eq)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    statics, leaves = ([f.name for f in fields if ("static" in f.metadata) is which] for which in (True, False))

    def flatten(x: T) -> tuple[list[Any], tuple[Any, ...]]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(x, name)) for name in leaves]
        return children, tuple(getattr(x, name) for name in statics)

    def unflatten(aux: tuple[Any, ...], children: Iterable[Any]) -> T:
        return cls(**dict(zip(leaves, children, strict=True)), **dict(zip(statics, aux, strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls


def strong(tree: T) -> T:
    """The same arrays without weak types: a weakly typed leaf would make `jit` trace twice (init, then resume).

    Python numbers become float32, int32 or bool, whatever JAX's defaults are (jax_enable_x64).
    """

    def cast(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x, NUMBERS.get(type(x)))
        return x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)

    result: T = jax.tree.map(cast, tree)
    return result


def narrow(dtype: Any) -> Any:
    """The dtype with 32 bits in place of 64, which numbers have where jax_enable_x64 is set."""
    return np.dtype({"float64": "float32", "int64": "int32"}.get(np.dtype(dtype).name, dtype))


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """`tree` with the dtypes of `like` (arrays or ShapeDtypeStructs of the same structure), strongly typed."""

    def cast(x: Any, y: Any) -> Any:  # a key has no weak type outside of a program
        return x if x.dtype == y.dtype and not getattr(x, "weak_type", False) else x.astype(y.dtype)

    return jax.tree.map(cast, tree, like)


def where(mask: jax.Array, x: PyTree, y: PyTree) -> PyTree:
    """Leaf by leaf `x` where `mask`, else `y`; the mask's axes are the leading axes of every leaf."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(pick, x, y)


def finite(tree: PyTree) -> jax.Array:
    """Whether no floating-point number of the tree is NaN or infinite: bool []."""
    found: jax.Array = jnp.bool_(True)
    for x in jax.tree.leaves(tree):
        found = found & jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.floating) else found
    return found


def nbytes(tree: PyTree) -> int:
    """Bytes of all arrays (or ShapeDtypeStructs) of a tree."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def member(tree: PyTree, index: Any) -> PyTree:
    """One member of a tree whose leaves have a leading member axis; several, in that order, where `index` is an array."""
    return jax.tree.map(lambda x: x[index], tree)


def flatten_time(tree: PyTree) -> PyTree:
    """[T, N, ...] -> [T * N, ...]: the rows of a rollout in time order, environments in turn."""
    return shared(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree))


def shared(tree: PyTree, axis: int = 0) -> PyTree:
    """A batch, of whose `axis` each of the devices that share one member (hosts.py) takes a part; else as it is.

    XLA would give all of it to each of them where it is gathered from all. Where it has no equal parts, it does.
    """
    devices = jax.sharding.get_abstract_mesh().shape.get(ENVS, 1)
    if devices == 1:
        return tree
    spec = jax.sharding.PartitionSpec(*[None] * axis, ENVS)
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, spec) if x.shape[axis] % devices == 0 else x, tree)


def swap_time(tree: PyTree) -> PyTree:
    """[T, N, ...] -> [N, T, ...], and back."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1), tree)
