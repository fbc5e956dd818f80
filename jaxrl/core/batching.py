"""How `vmap` computes members: so that a member alone has the bits it has among others."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.types import PyTree


@jax.custom_batching.custom_vmap
def everyone(x: jax.Array) -> jax.Array:
    """`x`, bool []; under `vmap` whether it holds for all members, one answer for them all.

    A loop that asks this runs until the last member is done, and so may call the host, which JAX forbids where each member
    has its own condition.
    """
    return x


@everyone.def_vmap
def _everyone_of(axis_size: int, in_batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
    return everyone(jnp.all(x)), False


def never_alone(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`fn`, whose `vmap` of width one is computed at width two and cut.

    XLA drops a batch axis of size one and then picks other matrix products, which round differently: without this a
    member alone would differ from the same member among others. Other widths agree by XLA's flags (`devices/platform.py`),
    as far as tested. Un-vmapped, `fn` is itself. Not differentiable in reverse.
    """
    wrapped = jax.custom_batching.custom_vmap(fn)

    @wrapped.def_vmap
    def rule(axis_size: int, in_batched: list[PyTree], *args: PyTree) -> tuple[PyTree, PyTree]:
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
        if axis_size == 1:
            args = jax.tree.map(lambda x, batched: x[np.array([0, 0])] if batched else x, args, tuple(in_batched))
        out = jax.vmap(fn, axes)(*args)
        if axis_size == 1:
            out = jax.tree.map(lambda x: x[:1], out)
        return out, jax.tree.map(lambda _: True, out)

    return wrapped
