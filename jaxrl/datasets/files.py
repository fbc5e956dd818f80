"""Datasets on disk: a folder of our own format, or of Minari's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from jaxrl.core.errors import InputError
from jaxrl.core.settings import check
from jaxrl.datasets import minari, shards
from jaxrl.datasets.transitions import Dataset, Episode, Info

Format = Literal["npz", "minari"]


def read(path: str | PathLike[str]) -> Dataset:
    """The dataset of a folder: one that jaxrl wrote, or Minari's with data/main_data.hdf5 (extra: minari).

    Raises InputError, in one line, where there is none, or a file is missing, damaged or has changed since.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"no dataset {folder}: no such folder")
    if (folder / shards.INDEX).is_file():
        return shards.read(folder)
    if (folder / minari.FILE).is_file():
        return minari.read(folder)
    raise InputError(f"{folder} is no dataset: it has neither {shards.INDEX} nor Minari's {minari.FILE}")


def fingerprint(path: str | PathLike[str]) -> dict[str, str]:
    """What data is, to see whether it has changed: {"path", "sha256"} of the files of a folder; {} of what is in a library.

    Of our own format dataset.json is enough, which holds the digests of the others.
    """
    folder = Path(path)
    index = [file for file in (folder / shards.INDEX, folder / minari.FILE) if file.is_file()]
    found = index[:1] or sorted(folder.glob("*.npz"))
    if not found:
        return {}
    sha = hashlib.sha256()
    for file in found:
        sha.update(hashlib.sha256(file.read_bytes()).digest())
    return {"path": str(folder.absolute()), "sha256": sha.hexdigest()}


def write(path: str | PathLike[str], dataset: Dataset, *, format: Format = "npz", overwrite: bool = False) -> None:
    """Write a dataset into a folder, new or empty. format, overwrite: as in `write_episodes`. Raises InputError."""
    write_episodes(path, dataset.info, dataset.episodes(), format=format, overwrite=overwrite)


def write_episodes(
    path: str | PathLike[str],
    info: Info,
    episodes: Iterable[Episode],
    *,
    format: Format = "npz",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write episodes as they come into a folder, new or empty: steps, episodes and mean_return of what was written.

    format: "npz", our own: until its last file is there, the folder is no dataset, or still the one it was before; or
    "minari", which is written at once and so has to fit the memory. overwrite: replace a dataset that lies there.

    Raises InputError where it cannot be written to, or there are no episodes.
    """
    folder = Path(path)
    check_free(folder, format, overwrite)
    room = {"npz": shards, "minari": minari}[format]
    try:
        return room.write(folder, info, episodes)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error


def check_free(folder: Path, format: Format = "npz", overwrite: bool = False) -> None:
    """Raises InputError where a dataset cannot be written: unknown format, missing extra, a file, or a folder in use."""
    check("format", format, Format)
    if format == "minari":
        minari.library()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if not {name for name in names if not shards.is_shard(name)}:  # nothing, or what a writer left that was killed
        return
    if not any((folder / name).is_file() for name in (shards.INDEX, minari.FILE)):
        raise InputError(f"{folder} is not empty, and no dataset: give another folder")
    if not overwrite:
        raise InputError(f"{folder} holds a dataset; give another folder, or overwrite it (--overwrite)")
    kept = minari.FILE if format == "minari" else shards.INDEX
    if not (folder / kept).is_file():
        raise InputError(f"{folder} holds a dataset of another format; give another folder")
