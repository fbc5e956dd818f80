"""Spaces as JSON, in Minari's words, and their elements as named arrays, as files hold them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import ArraySpace, Box, Discrete, MultiDiscrete, Product, Space


def to_json(space: Space, whole: bool = False) -> dict[str, Any]:
    """A space as plain values. whole: bounds element by element and infinities as such, as Minari wants them.

    Else a bound is one number where all elements have the same, and None for an infinite one.
    """
    if isinstance(space, Discrete):
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": space.n}
    if isinstance(space, MultiDiscrete):
        return {"type": "MultiDiscrete", "dtype": "int64", "nvec": list(space.sizes), "start": [0] * len(space.sizes)}
    if isinstance(space, Product):
        parts = [to_json(part, whole) for part in space.spaces]
        named = dict(zip(space.names, parts, strict=True)) if space.names else parts
        return {"type": "Dict" if space.names else "Tuple", "subspaces": named}
    bounds = {name: np.asarray(getattr(space, name), np.float64) for name in ("low", "high")}
    if whole:
        found: dict[str, Any] = {name: np.broadcast_to(x, space.shape).tolist() for name, x in bounds.items()}
    else:
        found = {name: _finite(x.tolist()) for name, x in bounds.items()}
    return {"type": "Box", "dtype": np.dtype(space.dtype).name, "shape": list(space.shape), **found}


def from_json(values: Any, where: str) -> Space:
    """The space of a `to_json`, or of what Minari wrote. where: whose it is, for messages.

    Raises InputError where it is damaged, or a space that jaxrl has not.
    """
    try:
        return _space(values, where)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} is damaged: {str(values)[:60]!r} is no space") from error


def parts(space: Space, name: str) -> dict[str, ArraySpace]:
    """The arrays that an element of a space is made of: "obs", or "obs.NAME" and "obs.0" of one in parts."""
    if not isinstance(space, Product):
        return {name: space}
    found: dict[str, ArraySpace] = {}
    for label, part in zip(space.names or range(len(space.spaces)), space.spaces, strict=True):
        found |= parts(part, f"{name}.{label}")
    return found


def arrays(space: Space, tree: Any, name: str) -> dict[str, np.ndarray]:
    """An element, leaves [..., *shape], as arrays under the names that `parts` gives."""
    if not isinstance(space, Product):
        return {name: np.asarray(tree)}
    found: dict[str, np.ndarray] = {}
    for label, part, x in zip(space.names or range(len(space.spaces)), space.spaces, space.parts(tree), strict=True):
        found |= arrays(part, x, f"{name}.{label}")
    return found


def element(space: Space, of: Callable[[str], Any], name: str) -> Any:
    """The inverse of `arrays`: the element whose array of each name is `of(name)`."""
    if not isinstance(space, Product):
        return of(name)
    labels = space.names or range(len(space.spaces))
    return space.join([element(part, of, f"{name}.{label}") for label, part in zip(labels, space.spaces, strict=True)])


def difference(a: Space, b: Space) -> bool:
    """Whether two spaces differ in parts, shapes, dtypes or numbers of values; bounds of a Box may differ."""
    x, y = (
        {name: (p.shape, np.dtype(p.dtype), getattr(p, "n", None), getattr(p, "sizes", None)) for name, p in found.items()}
        for found in (parts(a, ""), parts(b, ""))
    )
    return x != y


def _finite(x: Any) -> Any:
    """A bound with None for infinite numbers."""
    return [_finite(each) for each in x] if isinstance(x, list) else x if math.isfinite(x) else None


def _space(values: Any, where: str) -> Space:
    kind = values["type"]
    if kind == "Discrete" and not values.get("start", 0):
        return Discrete(int(values["n"]))
    if kind == "MultiDiscrete" and not np.any(values.get("start", 0)) and np.ndim(values["nvec"]) == 1:
        return MultiDiscrete(tuple(int(n) for n in values["nvec"]))
    if kind == "Box":
        shape, dtype = tuple(int(n) for n in values["shape"]), trees.narrow(values["dtype"])
        low, high = (_bound(values[name], without, shape) for name, without in (("low", -math.inf), ("high", math.inf)))
        return Box.between(low, high, dtype) if low.size else Box(shape, dtype=dtype)
    if kind == "Dict":
        return Product.of(**{name: _space(part, where) for name, part in values["subspaces"].items()})
    if kind == "Tuple":
        return Product(tuple(_space(part, where) for part in values["subspaces"]))
    raise InputError(f"{where}: {str(values)[:60]!r} is not supported; jaxrl takes Box, integers from 0 on, Dict and Tuple")


def _bound(values: Any, infinite: float, shape: tuple[int, ...]) -> np.ndarray:
    """A bound, None for an infinite one, float64 [*shape]."""
    numbers = np.array(values, object)
    flat = [infinite if x is None else float(x) for x in numbers.ravel()]
    return np.broadcast_to(np.array(flat, np.float64).reshape(numbers.shape), shape)
