"""Weights that training begins with: those of a run, of a wave of a sweep, or of a safetensors file, by leaf."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.core import safetensors
from jaxrl.core.errors import InputError
from jaxrl.core.loop import Trainer
from jaxrl.experiment import initial
from jaxrl.experiment.experiment import Experiment
from jaxrl.experiment.initial import Row
from jaxrl.networks import leaves, resnet
from jaxrl.runs import directory, documents, snapshot
from jaxrl.runs.callbacks import BEST
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.runs.documents import CONFIG
from jaxrl.runs.wave import CHECKPOINTS


class Source(NamedTuple):
    """leaves: by name, [members, ...]; digest: SHA-256 of all of them, names included. settings: of its Config."""

    leaves: dict[str, np.ndarray]
    digest: str
    settings: dict[str, Any]


def read(where: str) -> Source:
    """The leaves of DIR or DIR/best, of DIR:PART (those under PART alone, without it), or of FILE.safetensors.

    Raises InputError where nothing can be read there.
    """
    path, _ = _parted(where)
    files = [path, *path.glob("*.safetensors"), *(path / CHECKPOINTS).glob("*")]
    return _read(where, tuple((str(file), file.stat().st_mtime_ns) for file in files if file.exists()))


@functools.lru_cache(maxsize=2)
def _read(where: str, when: tuple[Any, ...]) -> Source:
    """The same; when: what tells whether it has changed since it was read."""
    path, part = _parted(where)
    if path.suffix == ".safetensors":
        settings: dict[str, Any] = {}
        found = {name: x[None] for name, x in _of_file(path).items()}
    elif path.is_dir():
        found, settings = _of_directory(path)
    else:
        raise InputError(f"init_from {where}: no such directory or .safetensors file")
    if part:
        found = {name.removeprefix(part + "/"): x for name, x in found.items() if name.startswith(part + "/")}
        if not found:
            raise InputError(f"init_from {where}: nothing in {path} lies under {part!r}")
    sha = hashlib.sha256()
    for name, x in sorted(found.items()):
        sha.update(f"{name} {x.dtype} {x.shape}".encode())
        sha.update(np.ascontiguousarray(x).tobytes())
    return Source(found, sha.hexdigest(), settings)


def rows(experiment: Experiment, trainer: Trainer) -> list[Row]:
    """What becomes of each leaf, [] without `init_from`. Raises InputError where nothing, or not enough, is loaded."""
    if experiment.init_from is None:
        return []
    if trainer.agent.params is None:
        raise InputError(f"init_from: agent {experiment.agent} does not say what its parameters are (Agent.params)")
    source = {name: x.shape[1:] for name, x in read(experiment.init_from).leaves.items()}
    found = initial.match(_shapes(trainer), source, experiment.init_leaves)
    initial.check(found, experiment.init_from, experiment.init_strict)
    return found


def loaded(experiment: Experiment, trainer: Trainer, seeds: np.ndarray) -> Any:
    """What `init` takes as parameters of members with these seeds: `Loaded`, leaves [members, ...]; None without a source.

    The source's member k mod M goes to seed k.
    """
    found = rows(experiment, trainer)
    if not found:
        return None
    arrays = initial.taken(found, read(experiment.init_from).leaves)
    return initial.Loaded({name: x[seeds % len(x)] for name, x in arrays.items()})


def lines(experiment: Experiment, trainer: Trainer) -> list[str]:
    """What to show before training: what goes where, and settings in which agent and source differ."""
    found = rows(experiment, trainer)
    if not found:
        return []
    count = sum(row.loaded for row in found)
    first = f"from {experiment.init_from}: {count} of {len(_shapes(trainer))} leaves are loaded"
    settings = read(experiment.init_from).settings
    here = vars(experiment.config)
    other = [f"{name} = {here[name]} here, {settings[name]} there" for name in ALIKE if _differ(name, here, settings)]
    return [first, *initial.table(found), *(f"  note: {each}" for each in other)]


def describe(experiment: Experiment, trainer: Trainer) -> dict[str, Any]:
    """What config.json says of it; {} without `init_from`."""
    found = rows(experiment, trainer)
    if not found:
        return {}
    table = [{"leaf": row.leaf, "shape": list(row.shape), "state": row.state, "source": row.source} for row in found]
    return {"initial": {"sha256": read(experiment.init_from).digest, "leaves": table}}


def check_unchanged(folder: Path, experiment: Experiment) -> None:
    """Raises InputError where what training begins with is not what it was when a directory was made."""
    before = documents.read_config(folder).get("initial", {}).get("sha256")
    if before and read(experiment.init_from).digest != before:
        raise InputError(f"init_from {experiment.init_from} has changed since {folder} was made: train anew (--overwrite)")


ALIKE = ("activation", "layer_norm", "normalize_observations")  # settings that decide what a torso's numbers mean


def _differ(name: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    return name in here and name in there and here[name] != there[name]


def _shapes(trainer: Trainer) -> dict[str, tuple[int, ...]]:
    state = jax.eval_shape(trainer.init, jax.eval_shape(jax.random.key, 0))
    return initial.shapes(trainer.agent.params(state.agent))  # type: ignore[misc]


def _parted(where: str) -> tuple[Path, str]:
    """A path and the part after its last colon, where the whole is no path that exists."""
    before, colon, part = where.rpartition(":")
    if not colon or Path(where).exists():
        return Path(where), ""
    return Path(before), part.strip("/")


def _of_directory(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The leaves of a run as they are, or of DIR/best as keep_best kept them; and the run's Config."""
    best = path.name == BEST and (path.parent / CONFIG).is_file()
    home = path.parent if best else path
    kind = documents.kind_of(home)
    if kind not in ("run", "wave", "population"):
        raise InputError(f"init_from {path} is a {kind}, of several configurations: give a run, or one wave of it")
    wave = directory.read_wave(home, anyway=True)  # its leaves are what they are, whatever its code and data became
    trainer = wave.experiment.trainer()
    if trainer.agent.params is None:
        raise InputError(f"init_from {path}: its agent does not say what its parameters are (Agent.params)")
    if best:
        found = Checkpoints(path).restore(wave.template(trainer))
    else:
        found = snapshot.restore(wave, trainer, same_settings=kind != "population")
    if found is None:
        raise InputError(f"init_from {path} has no checkpoint yet")
    params = leaves.named(trainer.agent.params(found[0].agent))
    return {name: np.asarray(x) for name, x in params.items()}, vars(wave.experiment.config)


def _of_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: of torchvision's resnet18 by the names they have here, else by their own."""
    arrays = safetensors.read(path)
    if any(name.startswith(".agent") for name in arrays):
        raise InputError(f"init_from {path} is a checkpoint of jaxrl: give the directory of its run")
    if resnet.is_torchvision(list(arrays)):
        return {f"torso/ResNet18_0/{name}": x for name, x in resnet.from_torchvision(arrays).items()}
    return {name.replace(".", "/"): x for name, x in arrays.items()}
