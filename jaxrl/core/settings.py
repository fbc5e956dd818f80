"""Typed settings: dataclasses whose fields carry their range, and the one place that checks what a user gives.

A field in `Config` is static (a shape, a count, a branch); a field in `HParams` is traced. Ranges are annotations:
`learning_rate: Annotated[float, Range(above=0)] = 1e-3`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import jax

from jaxrl.core.errors import InputError, nearest, unknown
from jaxrl.core.trees import pytree

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, or of every number of a tuple: low ≤ x ≤ high and x > above; infinite only if `infinite`."""

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    infinite: bool = False

    def holds(self, x: float) -> bool:
        """Whether a number lies within."""
        within = self.low <= x <= self.high and (x > self.above or self.above == -math.inf)
        return within and (self.infinite or math.isfinite(x))

    def __str__(self) -> str:
        parts = [(">=", self.low), (">", self.above), ("<=", self.high)]
        return " and ".join(f"{sign} {bound:.10g}" for sign, bound in parts if math.isfinite(bound)) or "finite"


Positive = Range(above=0)
NonNegative = Range(low=0)
Fraction = Range(low=0, high=1)
Count = Range(low=1)
AtLeastTwo = Range(low=2)


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of some names, or an instance or a subclass of a class; `jit` needs it to be hashable."""

    names: tuple[str, ...]
    kind: type

    def check(self, name: str, value: Any) -> Any:
        """`value`. Raises InputError where it is neither, or cannot be hashed."""
        if isinstance(value, str):
            return _named(name, value, self.names)
        if not isinstance(value, self.kind) and not (isinstance(value, type) and issubclass(value, self.kind)):
            raise InputError(f"{name} = {value!r} must be a name or a {self.kind.__module__}.{self.kind.__name__}")
        try:
            hash(value)
        except TypeError as error:
            raise InputError(f"{name}: {type(value).__name__} must be hashable; give it tuples, not lists") from error
        return value


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """What every agent's Config starts with: the shape of an iteration."""

    num_envs: typing.Annotated[int, Count] = 1
    """Environments stepped in parallel (N)."""
    rollout_length: typing.Annotated[int, Count] = 1
    """Steps each environment takes between two learning phases (T)."""
    updates_per_iteration: typing.Annotated[int, NonNegative] = 0
    """Rollout-and-learn rounds per iteration, that is per row of metrics (U); 0 = at least 500 environment steps."""


def hyperparameters(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass registered as a pytree whose every field is a traced leaf."""
    return pytree(cls, eq=True)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """A settings dataclass's fields with their types and ranges, as `check` reads them."""
    found = typing.get_type_hints(cls, include_extras=True)
    return {f.name: found[f.name] for f in dataclasses.fields(cls)}


def build(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """An instance of the settings dataclass `cls`, defaults overlaid with `values`.

    owner: whose settings they are, for messages. Raises ValueError for an unknown field, a wrong type, or a value out of
    range, naming the field; and whatever the class's own `check` raises, where values must fit each other.
    """
    known = hints(cls)  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise unknown(f"setting of {owner}", name, known)
    settings = cls(**{name: check(name, value, known[name]) for name, value in values.items()})
    if hasattr(settings, "check"):
        settings.check()
    return settings


def check(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type that `hint` says, within its Range; ValueError otherwise. Traced arrays pass unread."""
    bounds: tuple[Any, ...] = ()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *rest = typing.get_args(hint)
        if isinstance(rest[0], OneOf):
            return rest[0].check(name, value)
        bounds = tuple(b for b in rest if isinstance(b, Range))
    if hint is float and (isinstance(value, jax.core.Tracer) or getattr(value, "ndim", 0) > 0):
        return value
    result = _convert(name, value, hint)
    for number in result if isinstance(result, tuple) else (result,):
        for bound in bounds:
            if number is not None and not bound.holds(number):
                raise InputError(f"{name} = {value} is out of range: must be {bound}")
    return result


def _named(name: str, value: Any, names: tuple[Any, ...]) -> Any:
    if value in names:
        return value
    raise InputError(f"{name} = {value!r} is not one of {', '.join(map(str, names))}; {nearest(str(value), names)}")


def _convert(name: str, value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(name, value, next(a for a in args if a is not type(None)))
    if origin is Literal:
        return _named(name, value, args)
    if origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_convert(name, v, args[0]) for v in value)
        raise InputError(f"{name} = {value!r} must be a sequence of {args[0].__name__}")
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, float) and (isinstance(value, numbers.Real) or hasattr(value, "dtype")) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError as error:
            raise InputError(f"{name} = {str(value)[:20]}... is too large") from error
        if math.isnan(number) or (hint is int and not number.is_integer()):
            raise InputError(f"{name} = {value} must be {'a number' if hint is float else 'an integer'}")
        return int(value) if hint is int else number
    if hint not in (bool, int, float) and isinstance(value, hint):
        return value
    raise InputError(f"{name} = {value!r} must be of type {getattr(hint, '__name__', hint)}")


def type_text(hint: Any) -> str:
    """A setting's type and range in words: "float >= 0 and <= 1", "tuple of int >= 1", "mlp | gru"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        bounds = [" | ".join(b.names) if isinstance(b, OneOf) else f"{type_text(args[0])} {b}" for b in args[1:]]
        return bounds[0]
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"tuple of {type_text(args[0])}"
    return " | ".join(map(type_text, args)) if args else getattr(hint, "__name__", str(hint))


def read(name: str, text: str, hint: Any) -> Any:
    """Text as a person types it (1e6, 1_000_000, 64x64, none, true) as the Python value that its type wants.

    Whether that is of the type and in range `check` decides. Raises InputError for what is no such value.
    """
    origin, args, text = typing.get_origin(hint), typing.get_args(hint), text.strip()
    if origin is typing.Annotated:
        return read(name, text, args[0])
    if origin in (typing.Union, types.UnionType):
        inner = next(a for a in args if a is not type(None))
        return None if text.lower() == "none" else read(name, text, inner)
    if origin is tuple:
        if args[0] is str:  # patterns=a+b
            return () if text.lower() == "none" else tuple(filter(None, text.split("+")))
        return tuple(read(name, part, args[0]) for part in text.replace("x", " ").replace(",", " ").split())
    if hint is str or origin is Literal:
        return text
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return int(text) if hint is int and text.lstrip("-").replace("_", "").isdecimal() else float(text)
    except ValueError as error:
        raise InputError(f"{name} = {text} must be {'an integer' if hint is int else 'a number'}") from error
