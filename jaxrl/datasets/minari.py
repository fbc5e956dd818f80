"""Minari's layout (github.com/Farama-Foundation/Minari) with HDF5, read and written by h5py (extra: minari).

data/metadata.json     spaces as JSON within JSON, and what Minari says of a dataset; older ones have it in the other file
data/main_data.hdf5    groups episode_0, ...: observations [L + 1, ...], actions, rewards, terminations and truncations
                       [L, ...]; a dict is a group of its parts, a tuple a group of _index_0, ...
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core import durable
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Product, Space
from jaxrl.datasets import shards, spaces
from jaxrl.datasets.transitions import Dataset, Episode, Info, joined

FILE, METADATA = "data/main_data.hdf5", "data/metadata.json"
STEPS = {"rewards": np.float32, "terminations": np.bool_, "truncations": np.bool_}


def library() -> Any:
    """h5py. Raises InputError without the extra."""
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise InputError("datasets of Minari need the extra: pip install 'jaxrl[minari]'") from error


def read(folder: Path) -> Dataset:
    """The dataset of a folder of Minari's. An episode that was cut without a flag counts as truncated. Raises InputError."""
    h5py, path = library(), folder / FILE
    try:
        with h5py.File(path, "r") as file:
            info = _info(folder, file)
            names = sorted((name for name in file if name.startswith("episode_")), key=lambda name: int(name.split("_")[1]))
            if not names:
                raise InputError(f"{path} has no episodes")
            return joined(info, [_episode(path, info, file[name], name) for name in names])
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def write(folder: Path, info: Info, episodes: Iterable[Episode]) -> dict[str, Any]:
    """Write all episodes at once; see `files.write_episodes`."""
    h5py, buffer = library(), io.BytesIO()
    steps, returns = 0, []
    with h5py.File(buffer, "w") as file:
        for number, episode in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            group.attrs["id"], group.attrs["total_steps"] = number, len(episode.reward)
            _put(group, "observations", info.observation_space, episode.obs)
            _put(group, "actions", info.action_space, episode.action)
            for name, x in zip(STEPS, episode[2:], strict=True):
                group.create_dataset(name, data=x)
            steps += len(episode.reward)
            returns.append(episode.reward.sum(dtype=np.float64))
    if not returns:
        raise InputError(f"{folder}: there are no episodes to write")
    durable.make_directory((folder / FILE).absolute().parent)
    (folder / METADATA).unlink(missing_ok=True)  # with another file beside it would say what is not so
    with durable.written(folder / FILE) as out:
        out.write(buffer.getvalue())
    with durable.written(folder / METADATA) as out:
        out.write((json.dumps(_metadata(info, steps, len(returns)), indent=2, default=str) + "\n").encode())
    return {"steps": steps, "episodes": len(returns), "mean_return": float(np.mean(returns))}


def _metadata(info: Info, steps: int, episodes: int) -> dict[str, Any]:
    whole = {name: json.dumps(spaces.to_json(getattr(info, name), True)) for name in ("observation_space", "action_space")}
    return {
        "dataset_id": f"jaxrl/{''.join(c if c.isalnum() else '-' for c in info.env)}-v0",
        "data_format": "hdf5",
        "minari_version": "0.5.0",
        "algorithm_name": info.agent,
        "total_steps": steps,
        "total_episodes": episodes,
        **whole,
        "jaxrl": shards.described(info),
    }


def _info(folder: Path, file: Any) -> Info:
    """What metadata.json says, or, of older datasets, the file's attributes."""
    path = folder / METADATA
    found = json.loads(path.read_bytes()) if path.is_file() else dict(file.attrs)
    if isinstance(found.get("jaxrl"), dict):
        return shards.info_of(found["jaxrl"], str(path))
    where = path if path.is_file() else folder / FILE
    space: dict[str, Any] = {}
    for name in ("observation_space", "action_space"):
        if not isinstance(found.get(name), str):
            raise InputError(f"{where} says no {name}, and jaxrl does not guess it")
        space[name] = spaces.from_json(json.loads(found[name]), f"{where}: {name}")
    env = found.get("env_spec")
    env_id = json.loads(env).get("id") if isinstance(env, str) else found.get("dataset_id")
    return Info(env=str(env_id or folder.name), agent=str(found.get("algorithm_name") or ""), **space)


def _episode(path: Path, info: Info, group: Any, name: str) -> Episode:
    steps: list[Any] = [np.asarray(group[part][()], dtype) for part, dtype in STEPS.items()]
    length = len(steps[0])
    obs = _get(group["observations"], info.observation_space)
    action = _get(group["actions"], info.action_space)
    lengths = [
        *(len(x) - 1 for x in spaces.arrays(info.observation_space, obs, "obs").values()),
        *(len(x) for x in spaces.arrays(info.action_space, action, "action").values()),
        *map(len, steps),
    ]
    if not length or any(n != length for n in lengths):
        raise InputError(f"{path} is damaged: {name} has no equal numbers of observations less one, actions and rewards")
    steps[2][-1] |= not steps[1][-1]
    return Episode(obs, action, *steps)


def _put(group: Any, name: str, space: Space, x: Any) -> None:
    if not isinstance(space, Product):
        group.create_dataset(name, data=np.asarray(x))
        return
    inner = group.create_group(name)
    labels = space.names or [f"_index_{i}" for i in range(len(space.spaces))]
    for label, part, y in zip(labels, space.spaces, space.parts(x), strict=True):
        _put(inner, label, part, y)


def _get(stored: Any, space: Space) -> Any:
    """An element [L, ...] in the dtypes of its space."""
    if isinstance(space, Product):
        labels = space.names or [f"_index_{i}" for i in range(len(space.spaces))]
        return space.join([_get(stored[label], part) for label, part in zip(labels, space.spaces, strict=True)])
    x = np.asarray(stored[()])
    if x.shape[1:] != space.shape:
        raise ValueError(f"an array of shape {list(x.shape[1:])} is none of {space}")
    return x.astype(space.dtype)
