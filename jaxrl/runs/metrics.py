"""A run's numbers in its directory: metrics.jsonl and timing.jsonl. (sinks.py: where else they go if asked.)

metrics.jsonl has one line per (iteration, member) and no clock, so that two runs of the same settings are equal byte by
byte. A checkpoint records how many bytes belong to it; resume cuts the file there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core.errors import InputError

Row = dict[str, Any]
Label = Mapping[str, int]


def plain(x: Any) -> Any:
    """A scalar, or an array as lists, as JSON holds it: NaN and infinities are None; float32 has its own shortest digits."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x.tolist()
    shortest: Any = x if x.dtype == np.float64 else x.astype(str).astype(np.float64)
    return np.where(np.isfinite(x), shortest, np.array(None)).tolist()


def rows(metrics: Mapping[str, np.ndarray], first_iteration: int, count: int, labels: Sequence[Label]) -> list[Row]:
    """One row per (iteration, member) from arrays [≥ members, ≥ count]; labels: what names each member in its rows."""
    columns = {name: plain(x[: len(labels), :count]) for name, x in metrics.items()}
    return [
        {"iteration": first_iteration + i, **label, **{name: x[m][i] for name, x in columns.items()}}
        for i in range(count)
        for m, label in enumerate(labels)
    ]


def name_of(row: Mapping[str, Any]) -> int | tuple[int, int]:
    """A member's name in its rows: its seed, in a sweep (configuration, seed)."""
    return (row["config"], row["seed"]) if "config" in row else row["seed"]


def diverged(rows: Iterable[Row]) -> list:
    """The names of members whose loss was not finite at some time, in order."""
    return sorted({name_of(row) for row in rows if row["diverged"]})


class JsonLines:
    """An append-only file of JSON objects, one a line."""

    def __init__(self, path: Path, keep_bytes: int | None = None) -> None:
        """keep_bytes: cut an existing file there first; None appends to all of it, but for a last line cut by a crash."""
        if keep_bytes is None and path.exists():
            keep_bytes = path.read_bytes().rfind(b"\n") + 1
        self._file = open(path, "ab")
        if keep_bytes is not None and self._file.tell() < keep_bytes:
            raise InputError(f"{path} is damaged: it has fewer bytes than its checkpoint says")
        if keep_bytes is not None:
            self._file.truncate(keep_bytes)
            self._file.seek(0, os.SEEK_END)

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows, which other processes can read at once; sure to outlive the machine only after `flush`."""
        self._file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        self._file.flush()

    def flush(self) -> int:
        """Force everything to disk; returns the file's length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


def read(path: Path) -> list[Row]:
    """The rows of a JSON-lines file; a last line cut by a crash is left out. Raises ValueError for a damaged line."""
    found = []
    if not path.is_file():
        raise InputError(f"{path.parent} is damaged: it has no {path.name}")
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:  # no JSON, or no text at all
            raise InputError(f"{path}: line {number} is not JSON") from error
    return found
