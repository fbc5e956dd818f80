"""Our own format: a folder of .npz shards, and dataset.json, which is written last and says what belongs to it.

dataset.json    dataset: 1, the format's number; env, env_kwargs, env_params, env_transforms, agent, policy, seeds, seed;
                observation_space, action_space, in Minari's words; steps, episodes; shards: file, steps, episodes, sha256
shard-*.npz     whole episodes: lengths int32 [E]; obs [M + E, ...], an episode having one more than steps, as in Minari;
                action [M, ...]; reward float32 [M]; terminated, truncated bool [M]. A part of an observation or action in
                parts is an array of its own: obs.NAME of a dict, obs.0 of a tuple.

A shard's name holds a piece of its digest: a dataset that replaces another has other files, and takes its place with
dataset.json.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.core import durable
from jaxrl.core.errors import InputError
from jaxrl.datasets import spaces
from jaxrl.datasets.transitions import Dataset, Episode, Info, joined

INDEX, FORMAT = "dataset.json", 1
SHARD_BYTES = 64_000_000  # of arrays, before they are compressed
FIELDS: dict[str, type] = {
    "env": str, "env_kwargs": dict, "env_params": dict, "env_transforms": list, "agent": str, "policy": str, "seeds": list,
    "seed": int, "observation_space": dict, "action_space": dict, "steps": int, "episodes": int, "shards": list,
}  # fmt: skip
STEPS: dict[str, Any] = {"reward": np.float32, "terminated": np.bool_, "truncated": np.bool_}


def is_shard(name: str) -> bool:
    """Whether a file's name is one of ours, finished or not."""
    return re.fullmatch(r"(shard-\d{5}-[0-9a-f]{8}\.npz|dataset\.json\.tmp)(\.tmp)?", name) is not None


def write(folder: Path, info: Info, episodes: Iterable[Episode]) -> dict[str, Any]:
    """Write episodes as they come; see `files.write_episodes`."""
    durable.make_directory(folder.absolute())
    listed: list[dict[str, Any]] = []
    returns = []
    for number, some in enumerate(_filled(episodes)):
        dataset = joined(info, some)
        content = _packed(dataset)
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"shard-{number:05}-{sha256[:8]}.npz"
        with durable.written(folder / name) as file:
            file.write(content)
        listed.append({"file": name, "steps": len(dataset), "episodes": len(some), "sha256": sha256})
        returns.append(dataset.returns)
    if not listed:
        raise InputError(f"{folder}: there are no episodes to write")
    total = {name: sum(shard[name] for shard in listed) for name in ("steps", "episodes")}
    with durable.written(folder / INDEX) as file:
        file.write(
            (
                json.dumps({"dataset": FORMAT, **described(info), **total, "shards": listed}, indent=2, default=str) + "\n"
            ).encode()
        )
    for path in folder.iterdir():  # of what was there before
        if is_shard(path.name) and path.name not in {shard["file"] for shard in listed}:
            path.unlink()
    return total | {"mean_return": float(np.concatenate(returns).mean(dtype=np.float64))}


def described(info: Info) -> dict[str, Any]:
    """What a document says of where episodes come from."""
    said = {name: value for name, value in vars(info).items() if not name.endswith("_space")}
    found = {"observation_space": spaces.to_json(info.observation_space), "action_space": spaces.to_json(info.action_space)}
    return said | {"env_transforms": list(info.env_transforms), "seeds": list(info.seeds)} | found


def info_of(values: dict[str, Any], where: str) -> Info:
    """The inverse of `described`."""
    found: dict[str, Any] = {
        name: spaces.from_json(values[name], f"{where}: {name}") for name in ("observation_space", "action_space")
    }
    rest = {name: values[name] for name in ("env", "env_kwargs", "env_params", "agent", "policy", "seed")}
    return Info(**rest, **found, env_transforms=tuple(values["env_transforms"]), seeds=tuple(values["seeds"]))


def read(folder: Path) -> Dataset:
    """The dataset of a folder that has a dataset.json. Raises InputError."""
    values = _index(folder / INDEX)
    info = info_of(values, str(folder / INDEX))
    found = [_shard(folder, info, shard) for shard in values["shards"]]
    dataset = Dataset(info, *jax.tree.map(lambda *x: np.concatenate(x), *found))
    if (len(dataset), len(dataset.lengths)) != (values["steps"], values["episodes"]):
        raise InputError(f"{folder / INDEX} is damaged: its shards have not the steps or episodes that it says")
    return dataset


def _filled(episodes: Iterable[Episode]) -> Iterator[list[Episode]]:
    """Episodes in portions of about SHARD_BYTES."""
    some: list[Episode] = []
    size = 0
    for episode in episodes:
        some.append(episode)
        size += sum(x.nbytes for x in jax.tree.leaves(episode))
        if size >= SHARD_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _packed(dataset: Dataset) -> bytes:
    """A shard's bytes, which its arrays decide."""
    info, buffer = dataset.info, io.BytesIO()
    arrays = spaces.arrays(info.observation_space, dataset.observations, "obs")
    arrays |= spaces.arrays(info.action_space, dataset.action, "action")
    arrays |= {name: getattr(dataset, name) for name in (*STEPS, "lengths")}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _index(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict) or "dataset" not in values:
        raise InputError(f"{path} is no dataset of jaxrl")
    if values["dataset"] != FORMAT:
        raise InputError(f"{path} has format {values['dataset']!r}, which this version of jaxrl does not know")
    for name, kind in FIELDS.items():
        if not isinstance(values.get(name), kind):
            raise InputError(f"{path} is damaged: it has no {name}, or one that is no {kind.__name__}")
    for shard in values["shards"] or [None]:
        if not isinstance(shard, dict) or not all(isinstance(shard.get(name), str) for name in ("file", "sha256")):
            raise InputError(f"{path} is damaged: its shards are not listed")
        if not is_shard(shard["file"]):
            raise InputError(f"{path} is damaged: {shard['file'][:40]!r} is no shard's name")
    return values


def _shard(folder: Path, info: Info, shard: dict[str, Any]) -> tuple[Any, ...]:
    """observations, action, reward, terminated, truncated and lengths of one shard."""
    path = folder / shard["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != shard["sha256"]:
        raise InputError(f"{path} is damaged: it is not the file that {INDEX} says (its sha256 differs)")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    _check_arrays(path, info, arrays)
    obs, action = (
        spaces.element(space, arrays.__getitem__, name)
        for space, name in ((info.observation_space, "obs"), (info.action_space, "action"))
    )
    return obs, action, *(arrays[name] for name in (*STEPS, "lengths"))


def _check_arrays(path: Path, info: Info, arrays: dict[str, np.ndarray]) -> None:
    """Raises InputError for an array that is missing, or has not the shape and dtype that it should have."""
    lengths = arrays.get("lengths", np.zeros(0))
    if lengths.dtype != np.int32 or lengths.ndim != 1 or not len(lengths) or (lengths < 1).any():
        raise InputError(f"{path} is damaged: it has no lengths of episodes")
    steps = int(lengths.sum(dtype=np.int64))
    expected: dict[str, Any] = {name: ((steps,), dtype) for name, dtype in STEPS.items()}
    observed, acted = spaces.parts(info.observation_space, "obs"), spaces.parts(info.action_space, "action")
    expected |= {name: ((steps, *part.shape), part.dtype) for name, part in acted.items()}
    expected |= {name: ((steps + len(lengths), *part.shape), part.dtype) for name, part in observed.items()}
    for name, (shape, dtype) in expected.items():
        x = arrays.get(name)
        if x is None or x.shape != shape or x.dtype != np.dtype(dtype):
            got = "is missing" if x is None else f"is {x.dtype}{list(x.shape)}, not {np.dtype(dtype)}{list(shape)}"
            raise InputError(f"{path} is damaged: {name} {got}")
