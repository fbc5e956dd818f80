"""What a sweep or a tuning varies: values or ranges of settings by name, read from text or Python, and checked.

A setting is a field of the agent's Config or HParams, or `env.NAME`, a traced parameter of the environment.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxrl.core.errors import InputError, setting_called
from jaxrl.core.settings import NonNegative, check, hints, read
from jaxrl.experiment import lookup, registry
from jaxrl.experiment.experiment import Experiment

ENV = "env."
TORSOS = re.compile(r",(?![^(]*\))")  # between names, not between the arguments of one


@dataclasses.dataclass(frozen=True)
class Choice:
    """Some values."""

    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Span:
    """Every number from low to high, drawn uniformly, or uniformly in its logarithm."""

    low: float
    high: float
    log: bool = False


Axis = Choice | Span
Setting = dict[str, Any]  # the varied settings of one configuration, by name


@dataclasses.dataclass(frozen=True)
class Field:
    """A setting that can be varied. kind: where it belongs; hint: its type with its range, as `settings.check` reads it."""

    kind: Literal["config", "hparams", "env"]
    hint: Any


def fields(base: Experiment) -> dict[str, Field]:
    """Every setting of an experiment that can be varied."""
    found = {ENV + name: Field("env", float) for name in registry.param_names(base.environment.params)}
    for kind, settings in (("config", base.config), ("hparams", base.hparams)):
        found |= {name: Field(kind, hint) for name, hint in hints(type(settings)).items()}  # type: ignore[arg-type]
    return found


def parted(base: Experiment, setting: Setting) -> dict[str, Setting]:
    """A setting's "config", "hparams" and "env", the last without the prefix."""
    known = fields(base)
    parts: dict[str, Setting] = {"config": {}, "hparams": {}, "env": {}}
    for name, value in setting.items():
        parts[known[name].kind][name.removeprefix(ENV)] = value
    return parts


def read_axes(base: Experiment, axes: Mapping[str, Any], *, ranges: bool) -> dict[str, Axis]:
    """Axes by name, each given as text (`"1e-4,1e-3"`, `"64x64,128x128"`, `"log:1e-5,1e-2"`, `"uniform:0.9,1"`), as a
    sequence of values, or as an Axis.

    ranges: whether a Span is possible here, as it is not in a grid. Raises ValueError naming the axis for an unknown
    setting, no value, a value twice or out of range, and a range of a static setting.
    """
    known = fields(base)
    named = [(setting_called(name, known, base.agent), given) for name, given in axes.items()]
    for name, times in Counter(name for name, _ in named).items():
        if times > 1:
            raise InputError(f"{name} is given twice")
    return {name: _axis(name, given, known[name], ranges) for name, given in named}


def grid(axes: Mapping[str, Axis]) -> list[Setting]:
    """Every combination of values, the last axis varying fastest."""
    values = [axis.values for axis in axes.values() if isinstance(axis, Choice)]
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*values)]


def configurations(
    base: Experiment, grid_of: Mapping[str, Any], random: Mapping[str, Any], samples: int, seed: int
) -> tuple[list[Setting], list[str]]:
    """The configurations of a grid and of random draws, and the flags of `jaxrl sweep` that ask for the same.

    Raises ValueError naming what is wrong.
    """
    both = sorted(set(grid_of) & set(random))
    if both:
        raise InputError(f"{both[0]} is in the grid and random too")
    if not grid_of and not random:
        raise InputError("a sweep needs something to vary: a grid (learning_rate=1e-4,1e-3) or random draws")
    if bool(random) != bool(samples):
        raise InputError("random draws and samples need each other: " + ("samples = 0" if random else "nothing is random"))
    fixed, drawn = read_axes(base, grid_of, ranges=False), read_axes(base, random, ranges=True)
    draws = sample(drawn, check("samples", samples, typing.Annotated[int, NonNegative]), seed) if random else [{}]
    flags = {"--grid": fixed, "--random": drawn}
    asked = [[flag, f"{name}={axis_text(axis)}"] for flag, axes in flags.items() for name, axis in axes.items()]
    asked += [["--samples", str(samples)]] if random else []
    return [point | draw for point in grid(fixed) for draw in draws], sum(asked, [])


def sample(axes: Mapping[str, Axis], count: int, seed: int) -> list[Setting]:
    """`count` independent draws. Each axis has a stream of its own: another axis beside it changes none of its draws."""
    columns = {}
    for name, axis in axes.items():
        rng = np.random.default_rng([seed, *name.encode()])
        if isinstance(axis, Choice):
            columns[name] = [axis.values[i] for i in rng.integers(len(axis.values), size=count)]
        elif axis.log:
            columns[name] = np.exp(rng.uniform(math.log(axis.low), math.log(axis.high), count)).tolist()
        else:
            columns[name] = rng.uniform(axis.low, axis.high, count).tolist()
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def applied(base: Experiment, setting: Setting) -> Experiment:
    """The experiment with some settings replaced. Raises ValueError naming the setting."""
    parts = parted(base, setting)
    return base.replace(config=parts["config"], hparams=parts["hparams"], env_params=base.env_params | parts["env"])


def text(setting: Setting) -> str:
    """A configuration as it is typed: learning_rate=0.0003 hidden_sizes=64x64."""
    return " ".join(f"{name}={value_text(value)}" for name, value in setting.items())


def axis_text(axis: Axis) -> str:
    """An axis as it is typed, to the last digit."""
    if isinstance(axis, Span):
        return f"{'log' if axis.log else 'uniform'}:{axis.low!r},{axis.high!r}"
    return ",".join(value_text(v) if isinstance(v, tuple) else str(v) for v in axis.values)


def value_text(value: Any) -> str:
    """One value as it is typed; numbers to four digits."""
    if isinstance(value, tuple | list):
        patterns = any(isinstance(part, str) for part in value)
        return "+".join(map(str, value)) if patterns else "x".join(map(str, value)) or "x"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _axis(name: str, given: Any, field: Field, ranges: bool) -> Axis:
    if name == "torso":
        given = [_torso(value, field.hint) for value in (TORSOS.split(given) if isinstance(given, str) else given)]
        field = dataclasses.replace(field, hint=str)
    kind, colon, rest = given.partition(":") if isinstance(given, str) else ("", "", "")
    if colon:
        given = _span(name, kind, rest)
    if isinstance(given, Span):
        return _checked_span(name, given, field, ranges)
    if isinstance(given, Choice):
        given = given.values
    if isinstance(given, str):
        given = [read(name, word, field.hint) for word in given.split(",") if word.strip()]
    if not isinstance(given, Sequence):
        given = given.tolist() if hasattr(given, "tolist") else [given]
    values = tuple(check(name, value, field.hint) for value in given)
    if not values:
        raise InputError(f"{name} has no values to try")
    for value, group in itertools.groupby(sorted(values, key=repr)):
        if len(list(group)) > 1:
            raise InputError(f"{name} lists {value_text(value)} twice")
    return Choice(values)


def _torso(value: Any, hint: Any) -> str:
    """A torso's name, so that a configuration can be written down; own code is found, to see that it is one."""
    text = value.strip() if isinstance(value, str) else lookup.name_of(value)
    if text is None:
        raise InputError(f"torso {value!r} has no name; give it as package.module:attribute or path/file.py:attribute")
    return text if registry.find_torso(text) is not text else check("torso", text, hint)


def _span(name: str, kind: str, rest: str) -> Span:
    if kind not in ("log", "uniform"):
        raise InputError(f"{name}={kind}:{rest}: unknown range {kind!r}; valid: log:LOW,HIGH, uniform:LOW,HIGH")
    try:
        low, high = map(float, rest.split(","))
    except ValueError as error:
        raise InputError(f"{name}={kind}:{rest} must be two numbers, {kind}:LOW,HIGH") from error
    return Span(low, high, kind == "log")


def _checked_span(name: str, span: Span, field: Field, ranges: bool) -> Span:
    if not ranges:
        draw = f"--random {name}={axis_text(span)} --samples N (in Python random={{...}}, samples=N)"
        raise InputError(f"{name} has a range in a grid, which takes values; draw from it with {draw}")
    if field.kind == "config":
        raise InputError(f"{name} is static (each value is a program of its own): give values, {name}=A,B, not a range")
    low, high = check(name, span.low, field.hint), check(name, span.high, field.hint)
    if not low < high or (span.log and low <= 0):
        raise InputError(f"{name}: a range needs LOW < HIGH" + (", and LOW > 0 for log" if span.log else ""))
    return Span(low, high, span.log)
