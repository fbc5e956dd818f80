"""Gymnasium's spaces in ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product, Space


def space_of(space: Any, what: str) -> Space:
    """A gymnasium space as ours; MultiBinary as a MultiDiscrete of two each. what: whose, for the message.

    A Discrete that does not start at 0, and spaces without a fixed size, are refused: raises InputError.
    """
    kind = type(space).__name__
    if kind == "Discrete" and int(space.start) == 0:
        return Discrete(int(space.n))
    if kind == "MultiDiscrete" and space.nvec.ndim == 1 and not np.any(space.start):
        return MultiDiscrete(tuple(int(n) for n in space.nvec))
    if kind == "MultiBinary" and isinstance(space.n, int):
        return MultiDiscrete((2,) * space.n)
    if kind == "Box":
        low, high = (np.asarray(bound, np.float32) for bound in (space.low, space.high))
        return Box.between(low, high, trees.narrow(space.dtype))
    if kind == "Dict":
        return Product.of(**{name: space_of(part, f"{what}[{name!r}]") for name, part in space.items()})
    if kind == "Tuple":
        return Product(tuple(space_of(part, f"{what}[{i}]") for i, part in enumerate(space.spaces)))
    raise InputError(f"{what} {space} is not supported; jaxrl takes Box, Discrete from 0 on, MultiDiscrete, Dict and Tuple")


def gymnasium_space(space: Space) -> Any:
    """Our space as a gymnasium one: the inverse of `space_of`, but for MultiBinary. Bounds are arrays there."""
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return spaces.MultiDiscrete(np.array(space.sizes))
    if isinstance(space, Product):
        parts = [gymnasium_space(part) for part in space.spaces]
        return spaces.Dict(dict(zip(space.names, parts, strict=True))) if space.names else spaces.Tuple(parts)
    dtype = np.dtype(space.dtype)
    if dtype == np.bool_:
        return spaces.MultiBinary(space.shape)
    low, high = (np.broadcast_to(np.asarray(bound), space.shape) for bound in (space.low, space.high))
    if not np.issubdtype(dtype, np.floating):
        limits = np.iinfo(dtype)
        low, high = np.clip(low, limits.min, limits.max), np.clip(high, limits.min, limits.max)
    return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
