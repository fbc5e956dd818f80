"""The flags of the commands, as dataclasses: a field is a flag, the text below it its help."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxrl.settings import Count, NonNegative

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    env: str
    """Environment id (see: jaxrl list envs)."""
    total_steps: Annotated[int | None, Count] = None
    """Environment steps of each seed, rounded up to whole iterations; default: the preset's, else 100,000."""
    seeds: Annotated[int, Count] = 1
    """How many seeds to train."""
    seed: Annotated[int, NonNegative] = 0
    """The first seed; the others follow it."""
    out: Path | None = None
    """Run directory, new or empty; default: runs/<agent>-<env>-<time>."""
    preset: str | None = None
    """Preset to start from, or none; default: the environment's own."""
    env_param: Repeated = ()
    """A traced parameter of the environment as name=value; repeat for more."""
    env_kwarg: Repeated = ()
    """A keyword argument of the environment's constructor as name=value; repeat for more."""
    eval_every: Annotated[int, NonNegative] = 0
    """Environment steps between greedy evaluations in training; 0 = none."""
    checkpoint_every: Annotated[float, NonNegative] = 30.0
    """Seconds between checkpoints."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra: tensorboard)."""
    overwrite: bool = False
    """Replace a former run in --out."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    dir: tyro.conf.Positional[Path]
    """Run directory."""
    checkpoint_every: Annotated[float, NonNegative] = 30.0
    """Seconds between checkpoints."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra: tensorboard)."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    dir: tyro.conf.Positional[Path]
    """Run directory."""
    episodes: Annotated[int, Count] = 128
    """Episodes of each seed."""
    gif: Path | None = None
    """Also write an episode of the first seed as a GIF."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path | None = None
    """Picture to write, values.png beside it; default: curve.png in the run directory, or curves.png here for several."""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    what: tyro.conf.Positional[Literal["agents", "envs", "all"]] = "all"
    """What to list."""
