"""What the adapters share: an `Env` made of another library's reset and step, whose states keep their dtypes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.spaces import Box, Product, Space
from jaxrl.core.types import Env, EnvSpec, EnvStep, Key, PyTree


class Outcome(NamedTuple):
    """What a state of a library says of the step that led to it; arrays of any dtype."""

    obs: PyTree
    reward: Any
    terminated: Any
    truncated: Any


def env_of(
    env_id: str,
    reset: Callable[[Key], PyTree],
    step: Callable[[PyTree, Any], PyTree],
    outcome: Callable[[PyTree], Outcome],
    action_space: Space,
    observation_space: Space | None = None,
    **spec: Any,
) -> Env:
    """An `Env` without parameters, its episodes reset by the loop alone.

    reset: key -> state. step: (state, action) -> state. outcome: what a state shows. observation_space: None takes arrays as
    they come, without bounds. spec: other fields of the `EnvSpec`.
    """
    with lenient():
        first = jax.eval_shape(lambda: reset(jax.random.key(0)))
        action = jax.eval_shape(action_space.sample, jax.random.key(0))
        like = stable(first, jax.eval_shape(step, first, action))
        space = observation_space or unbounded(jax.eval_shape(lambda state: outcome(state).obs, like))

    def start(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        with lenient():
            state = trees.cast_like(arrays(reset(key)), like)
            return state, _cast(outcome(state).obs, space)

    def advance(key: Key, state: PyTree, action: PyTree, params: PyTree) -> tuple[PyTree, EnvStep]:
        with lenient():
            state = trees.cast_like(arrays(step(state, action)), like)
            seen = outcome(state)
            terminated, truncated = (jnp.asarray(flag).astype(bool) for flag in (seen.terminated, seen.truncated))
            reward = jnp.asarray(seen.reward).astype(jnp.float32)
            return state, EnvStep(_cast(seen.obs, space), reward, terminated, truncated)

    return Env(EnvSpec(env_id, space, action_space, **spec), (), start, advance)


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Libraries promote ranks and dtypes, which a strict user forbids in their own code."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def arrays(tree: PyTree) -> PyTree:
    """Numbers as arrays."""
    return jax.tree.map(jnp.asarray, tree)


def plain(tree: Any) -> Any:
    """NamedTuples, dataclasses and mappings as dicts, at any depth; parts that are None are left out."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        tree = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree)}
    elif hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if hasattr(tree, "items"):
        return {name: plain(part) for name, part in tree.items() if part is not None}
    return tuple(map(plain, tree)) if isinstance(tree, tuple | list) else tree


def unbounded(like: PyTree) -> Space:
    """The space of all arrays of these shapes and dtypes, in dicts and tuples as they are."""
    if isinstance(like, dict):
        return Product(tuple(map(unbounded, like.values())), tuple(like))
    if isinstance(like, tuple):
        return Product(tuple(map(unbounded, like)))
    if like.dtype == jnp.bool_:
        return Box(like.shape, 0, 1, np.dtype(bool))
    if jnp.issubdtype(like.dtype, jnp.integer):
        return Box(like.shape, float(jnp.iinfo(like.dtype).min), float(jnp.iinfo(like.dtype).max), trees.narrow(like.dtype))
    return Box(like.shape, dtype=trees.narrow(like.dtype))


def stable(first: PyTree, after: PyTree) -> PyTree:
    """Shapes and dtypes that hold a state as it starts and after a step: counters start as int, and go on as float."""
    return jax.tree.map(_common, first, after)


def _common(a: Any, b: Any) -> jax.ShapeDtypeStruct:
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
        return a
    return jax.ShapeDtypeStruct(a.shape, jnp.promote_types(a.dtype, b.dtype))


def _cast(tree: PyTree, space: Space) -> PyTree:
    """Arrays in the dtypes of their space."""
    if isinstance(space, Product):
        return space.join([_cast(x, part) for x, part in zip(space.parts(tree), space.spaces, strict=True)])
    return jnp.asarray(tree).astype(space.dtype)
