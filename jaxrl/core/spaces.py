"""Observation and action spaces: small, immutable and hashable, so that they can be static under `jit`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError

UNBOUNDED = 1e30  # gymnax writes the largest float32 for infinity
MASK = "action_mask"  # the part of an observation that says which of n actions may be taken now: not 0, [n]


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0 … n - 1 as an int32 scalar."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(): one integer."""
        return ()

    @property
    def dtype(self) -> Any:
        """int32."""
        return jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw."""
        return jax.random.randint(key, (), 0, self.n, dtype=jnp.int32)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` lies in the space: bool, shape ()."""
        return (x >= 0) & (x < self.n)

    def __str__(self) -> str:
        return f"Discrete({self.n})"


@dataclasses.dataclass(frozen=True)
class Box:
    """Arrays of one shape and dtype, bounded element by element.

    `low` and `high` are a float for all elements, or nested tuples of the space's shape (tuples, to stay hashable).
    """

    shape: tuple[int, ...]
    low: Any = -math.inf
    high: Any = math.inf
    dtype: Any = jnp.float32

    @staticmethod
    def between(low: np.ndarray, high: np.ndarray, dtype: Any) -> Box:
        """The box of these bounds [*shape], each one float for all elements where they agree."""

        def nested(bound: Any) -> Any:
            return tuple(map(nested, bound)) if isinstance(bound, list) else bound

        below, above = (float(b.flat[0]) if (b == b.flat[0]).all() else nested(b.tolist()) for b in (low, high))
        return Box(low.shape, below, above, dtype)

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw between the bounds, infinite ones replaced by ±1; whole numbers include both. `self.shape`."""
        if self.dtype == jnp.bool_:
            return jax.random.bernoulli(key, shape=self.shape)
        low, high = (jnp.broadcast_to(jnp.asarray(b, jnp.float32), self.shape) for b in (self.low, self.high))
        low, high = jnp.where(jnp.abs(low) < UNBOUNDED, low, -1.0), jnp.where(jnp.abs(high) < UNBOUNDED, high, 1.0)
        if jnp.issubdtype(self.dtype, jnp.integer):
            low, high = low.astype(jnp.int32), high.astype(jnp.int32) + 1
            return jax.random.randint(key, self.shape, low, high).astype(self.dtype)
        return jax.random.uniform(key, self.shape, minval=low, maxval=high).astype(self.dtype)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` lies in the space: bool, shape ()."""
        return jnp.all((x >= jnp.asarray(self.low)) & (x <= jnp.asarray(self.high)))

    def __str__(self) -> str:
        return f"Box{self.shape}"


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """Several integers at once, the i-th of 0 … sizes[i] - 1: int32 [len(sizes)]."""

    sizes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(how many integers,)."""
        return (len(self.sizes),)

    @property
    def dtype(self) -> Any:
        """int32."""
        return jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform draw: int32 [len(sizes)]."""
        return jax.random.randint(key, self.shape, 0, jnp.array(self.sizes), dtype=jnp.int32)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether `x` lies in the space: bool, shape ()."""
        return jnp.all((x >= 0) & (x < jnp.array(self.sizes)))

    def __str__(self) -> str:
        return f"MultiDiscrete{self.sizes}"


@dataclasses.dataclass(frozen=True)
class Product:
    """Several spaces at once. An element is a tuple of theirs, or, where they have names, a dict in that order."""

    spaces: tuple[Space, ...]
    names: tuple[str, ...] = ()

    @staticmethod
    def of(**spaces: Space) -> Product:
        """The space whose elements are dicts of these."""
        return Product(tuple(spaces.values()), tuple(spaces))

    def parts(self, x: Any) -> tuple[Any, ...]:
        """The elements of the spaces that make up `x`, in order."""
        return tuple(x[name] for name in self.names) if self.names else tuple(x)

    def join(self, parts: Sequence[Any]) -> Any:
        """The element made of `parts`, in order: the inverse of `parts`."""
        return dict(zip(self.names, parts, strict=True)) if self.names else tuple(parts)

    def sample(self, key: jax.Array) -> Any:
        """A uniform draw of each."""
        keys = jax.random.split(key, len(self.spaces))
        return self.join([space.sample(k) for space, k in zip(self.spaces, keys, strict=True)])

    def contains(self, x: Any) -> jax.Array:
        """Whether each part lies in its space: bool, shape ()."""
        inside = [space.contains(part) for space, part in zip(self.spaces, self.parts(x), strict=True)]
        return jnp.all(jnp.stack(inside))

    def __str__(self) -> str:
        if self.names:
            return "{" + ", ".join(f"{n}: {s}" for n, s in zip(self.names, self.spaces, strict=True)) + "}"
        return "(" + ", ".join(map(str, self.spaces)) + ")"


ArraySpace = Discrete | Box | MultiDiscrete
Space = ArraySpace | Product


def sizes(space: Space) -> tuple[int, ...] | None:
    """How many values each integer of the space's elements takes; None of a space that has more than integers."""
    if isinstance(space, Product):
        parts = [sizes(part) for part in space.spaces]
        return None if None in parts else tuple(n for part in parts for n in part or ())
    return (space.n,) if isinstance(space, Discrete) else space.sizes if isinstance(space, MultiDiscrete) else None


def number(space: Space, x: Any) -> Any:
    """The place of `x`, leaves [..., *shape], among all elements of a space of integers, the last counting fastest.

    An int32 array [...].
    """
    if isinstance(space, Discrete):
        return x
    if isinstance(space, MultiDiscrete):
        space, x = Product(tuple(map(Discrete, space.sizes))), tuple(jnp.moveaxis(x, -1, 0))
    place: Any = 0
    for part, y in zip(space.spaces, space.parts(x), strict=True):  # type: ignore[union-attr]
        place = place * math.prod(sizes(part) or ()) + number(part, y)
    return place


def has_mask(space: Space) -> bool:
    """Whether observations have an action mask."""
    return isinstance(space, Product) and MASK in space.names


def without_mask(space: Product) -> Product:
    """The space of what is seen beside the action mask."""
    if not has_mask(space):
        return space
    return Product.of(**{name: part for name, part in zip(space.names, space.spaces, strict=True) if name != MASK})


def legal_actions(space: Space, obs: Any) -> jax.Array | None:
    """Where actions may be taken, bool [..., n], of observations with leading axes; None where there is no mask."""
    return obs[MASK] != 0 if has_mask(space) else None


def check_mask(space: Space, action_space: Space) -> None:
    """Raises InputError where observations have a mask that is not one of the actions."""
    if not isinstance(space, Product) or not has_mask(space):
        return
    mask: Any = space.spaces[space.names.index(MASK)]
    if not isinstance(action_space, Discrete) or mask.shape != (action_space.n,):
        raise InputError(f"{MASK} of shape {list(mask.shape)} is none of {action_space}: it needs one entry for each action")


def clip(space: Space, x: Any) -> Any:
    """The element of `space` nearest to `x` in its continuous parts; integers, and what has no bounds, stay as they are."""
    if isinstance(space, Product):
        return space.join([clip(part, y) for part, y in zip(space.spaces, space.parts(x), strict=True)])
    if not isinstance(space, Box) or not jnp.issubdtype(space.dtype, jnp.floating):
        return x
    if all(np.all(np.abs(bound) >= UNBOUNDED) for bound in (space.low, space.high)):
        return x
    return jnp.clip(x, jnp.asarray(space.low, x.dtype), jnp.asarray(space.high, x.dtype))
