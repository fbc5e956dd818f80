"""The flags of the commands, as dataclasses: a field is a flag, the text below it its help."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, NonNegative, Range
from jaxrl.core.types import Split
from jaxrl.experiment.experiment import MAX_TOTAL_STEPS
from jaxrl.experiment.members import MAX_SEED
from jaxrl.tuning.studies import Tuning

Steps = Range(low=1, high=MAX_TOTAL_STEPS)
Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclasses.dataclass(frozen=True)
class ExperimentOptions:
    """What every command that trains asks."""

    env: str
    """Environment id (see: jaxrl list envs)."""
    total_steps: Annotated[int | None, Steps] = None
    """Environment steps of each seed, rounded up to whole iterations; default: the preset's, else 100,000."""
    out: Path | None = None
    """Directory to write, new or empty; default: runs/<agent>-<env>-<time>."""
    preset: str | None = None
    """Preset to start from: a name, none, file.toml, or a directory of a run or a tuning; default: the environment's own."""
    env_param: Repeated = ()
    """A traced parameter of the environment as name=value; repeat for more."""
    env_kwarg: Repeated = ()
    """A keyword argument of the environment's constructor as name=value; repeat for more."""
    env_transform: Repeated = ()
    """A transform of the environment, as clip_rewards or stack_frames(4); repeat for more, applied in order."""
    init_from: str | None = None
    """What the agent begins with: the directory of a run, DIR:PART for a part of it, or a .safetensors file."""
    init_leaves: tuple[str, ...] = ()
    """Patterns of the leaves to load of it, as 'torso*'; default: all that fit."""
    init_strict: bool = False
    """Refuse where a leaf asked for cannot be loaded."""
    checkpoint_every: Annotated[float, NonNegative] = 30.0
    """Seconds between checkpoints."""
    overwrite: bool = False
    """Replace what jaxrl wrote in --out before."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinkOptions:
    """Where numbers go beside the directory."""

    tensorboard: bool = False
    """Also write TensorBoard events, into the run's directory (extra: tensorboard)."""
    wandb: str | None = None
    """Project of Weights & Biases to log to as well (extra: wandb); W&B's own variables hold, as WANDB_MODE=offline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchedOptions(SinkOptions):
    """What happens between chunks of training."""

    seed: Annotated[int, Range(low=0, high=MAX_SEED - 1)] = 0
    """The first seed; the others follow it."""
    eval_every: Annotated[int, NonNegative] = 0
    """Environment steps between greedy evaluations in training, on validation levels where there are levels; 0 = none."""
    callback: Repeated = ()
    """A callback, as path/file.py:Name or package.module:Name, with arguments if it takes some: Name(3); repeat for more."""
    stop_at_return: float | None = None
    """Stop once an evaluation (--eval-every), averaged over seeds, reaches this return."""
    patience: Annotated[int, NonNegative] = 0
    """Stop after so many evaluations (--eval-every) in a row without a better one; 0 = never."""
    keep_best: bool = False
    """Keep each seed's policy of its best evaluation (--eval-every) too."""


@dataclasses.dataclass(frozen=True)
class TrainOptions(WatchedOptions, ExperimentOptions):
    seeds: Annotated[int, Count] = 1
    """How many seeds to train."""


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """What trains a sweep."""

    engine: Literal["local", "ray"] = "local"
    """local: this process; ray: the workers of a Ray cluster (extra: ray), of which this machine is one."""
    ray_address: str | None = None
    """HOST:PORT of the cluster; default: RAY_ADDRESS, else the one that runs on this machine."""
    cpus_per_worker: Annotated[int | None, Count] = None
    """CPU cores of a Ray worker; default: a worker for each GPU, and one of all cores on a machine without."""

    def check(self) -> None:
        """Raises ValueError where what is for Ray is given without it."""
        for flag in ("ray_address", "cpus_per_worker"):
            if self.engine != "ray" and getattr(self, flag) is not None:
                raise InputError(f"--{flag.replace('_', '-')} needs --engine ray")


@dataclasses.dataclass(frozen=True)
class SweepOptions(WatchedOptions, ExperimentOptions):
    seeds: Annotated[int, Count] = 8
    """How many seeds to train of each configuration."""
    grid: Repeated = ()
    """A setting and its values as name=A,B,...; repeat for every combination. A sequence is written 64x64, a parameter of
    the environment env.NAME."""
    random: Repeated = ()
    """A setting to draw as name=A,B,... or name=log:LOW,HIGH or name=uniform:LOW,HIGH; repeat for more."""
    samples: Annotated[int, NonNegative] = 0
    """How many times to draw the --random settings."""
    memory_limit: str | None = None
    """Bytes that may be held at once, as 4GB; default: what is free. More members than fit run in waves."""
    dry_run: bool = False
    """Print the plan and stop."""
    where: EngineOptions = EngineOptions()


@dataclasses.dataclass(frozen=True)
class TuneOptions(ExperimentOptions):
    search: Repeated = ()
    """A setting to vary as name=log:LOW,HIGH or name=uniform:LOW,HIGH or name=A,B; repeat for more. Default: the agent's."""
    storage: str | None = None
    """URL of an Optuna storage, where a study of the same work is continued; default: an SQLite file in --out."""
    tuning: Tuning = Tuning()


@dataclasses.dataclass(frozen=True)
class ResumeOptions(SinkOptions):
    dir: tyro.conf.Positional[Path]
    """Directory of a run, a sweep or a tuning."""
    total_steps: Annotated[int | None, Steps] = None
    """Train on to so many environment steps of each seed, more than before; schedules then span the new total."""
    anyway: bool = False
    """Go on although an own file has changed, or something else differs that decides bits."""
    checkpoint_every: Annotated[float, NonNegative] = 30.0
    """Seconds between checkpoints."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    where: EngineOptions = EngineOptions()


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    dir: tyro.conf.Positional[Path]
    """Directory of a run, a sweep, one wave of a sweep, or a tuning."""
    config: Annotated[int | None, NonNegative] = None
    """Configuration of a sweep, by its number; default: the best."""
    episodes: Annotated[int, Count] = 128
    """Episodes of each seed."""
    split: Split | None = None
    """Levels to play: train, validation or test; default: test, where the environment has levels."""
    best: bool = False
    """The policies that --keep-best kept, instead of the last ones."""
    anyway: bool = False
    """Although an own file has changed since."""
    gif: Path | None = None
    """Also write an episode of the first seed as a GIF."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    dir: tyro.conf.Positional[Path]
    """Directory of a run, a sweep or a tuning; of the last two, the best configuration."""
    out: Path
    """Folder of the dataset to write, new or empty."""
    steps: Annotated[int | None, Count] = None
    """Environment steps to record at least, up to the end of an episode."""
    episodes: Annotated[int | None, Count] = None
    """Episodes to record, in place of --steps."""
    policy: str = "greedy"
    """greedy, behaviour (as at the end of training), or epsilon=0.1: greedy but for a tenth of the actions."""
    member: Annotated[int, NonNegative] = 0
    """Whose policy: the first trained seed, the second, ..."""
    seed: Annotated[int, Range(low=0, high=MAX_SEED - 1)] = 0
    """Of the recording: the same gives the same bytes."""
    format: Literal["npz", "minari"] = "npz"
    """npz: jaxrl's own; minari: Minari's HDF5 (extra: minari)."""
    best: bool = False
    """The policies that --keep-best kept, instead of the last ones."""
    anyway: bool = False
    """Although an own file has changed since."""
    overwrite: bool = False
    """Replace a dataset that lies in --out."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs, sweeps, waves and tunings; of several, each shows its best configuration."""
    out: Path | None = None
    """Picture to write, values.png of a run or effects.png of a sweep beside it; default: curve.png, curves.png or
    trials.png in the directory, or curves.png here for several."""


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of finished runs, sweeps, waves and tunings."""
    out: Path = Path("report.html")
    """File to write; one that is there is replaced."""


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    dir: tyro.conf.Positional[Path]
    """Directory of a run, a sweep, a wave or a tuning."""
    every: Annotated[float, Range(above=0)] = 1.0
    """Seconds between looks."""
    once: bool = False
    """Look once and stop."""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    what: tyro.conf.Positional[Literal["agents", "envs", "all"]] = "all"
    """What to list."""
    name: tyro.conf.Positional[str | None] = None
    """One agent or environment, to show in full: its settings with types and defaults."""


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    name: tyro.conf.Positional[str]
    """An agent or an environment: a name, package.module:attribute or path/file.py:attribute."""
    env: str | None = None
    """Where to try an agent; default: the first of a few that it takes."""
    env_kwarg: Repeated = ()
    """A keyword argument of the environment's constructor as name=value; repeat for more."""
    env_param: Repeated = ()
    """A traced parameter of the environment as name=value; repeat for more."""
