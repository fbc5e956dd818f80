"""Numbers of training as rows: metrics.jsonl and timing.jsonl, written and read back.

metrics.jsonl has one line for each iteration and member and no clock, so that two runs of the same settings are equal byte
by byte. A checkpoint records how many bytes belong to it; resume cuts the file there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.core.errors import InputError
from jaxrl.experiment.members import Name
from jaxrl.runs import documents

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
Row = dict[str, Any]
Label = Mapping[str, int]
Table = dict[str, np.ndarray]
METRICS_ROW = {"iteration": int, "seed": int, "env_steps": int, "episodes": int, "diverged": bool}
TIMING_ROW = {"env_steps": int, "iterations": int, "seconds": float}


def plain(x: Any) -> Any:
    """A scalar, or an array as lists, as JSON holds it: NaN and infinities are None; float32 has its own shortest digits."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x.tolist()
    shortest: Any = x if x.dtype == np.float64 else x.astype(str).astype(np.float64)
    return np.where(np.isfinite(x), shortest, np.array(None)).tolist()


def rows_of(first: int, metrics: Table, evaluated: Table, labels: Sequence[Label]) -> list[Row]:
    """One row for each iteration and member.

    first: iterations before these. metrics: {name: [members, iterations]}. evaluated: {name: [members]}, numbers that only
    the rows of the last iteration have. labels: what names each member in its rows.
    """
    columns = {name: plain(x) for name, x in metrics.items()}
    count = len(next(iter(columns.values()))[0])
    found = [
        {"iteration": first + i, **label, **{name: x[m][i] for name, x in columns.items()}}
        for i in range(count)
        for m, label in enumerate(labels)
    ]
    for name, values in evaluated.items():
        for row, value in zip(found[-len(labels) :], values, strict=True):
            row[name] = plain(value)
    return found


def name_of(row: Mapping[str, Any]) -> Name:
    """A member's name in its rows: its seed, in a sweep (configuration, seed)."""
    return (row["config"], row["seed"]) if "config" in row else row["seed"]


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


def read(path: Path, schema: Mapping[str, Any] = METRICS_ROW) -> list[Row]:
    """The rows of a JSON-lines file; a last line cut by a crash is left out.

    schema: fields that each row must have, with their types. Raises ValueError for a damaged line.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} is damaged: it has no {path.name}")
    lines = path.read_bytes().split(b"\n")
    return [parsed(line, f"{path}: line {number}", schema) for number, line in enumerate(lines[:-1], 1)]


def parsed(line: bytes, where: str, schema: Mapping[str, Any]) -> Row:
    """One line of a JSON-lines file. Raises ValueError where it is no such row."""
    row = documents.parsed(line, where)
    documents.check(row, where, schema)
    for name, value in row.items():
        if value is not None and not isinstance(value, int | float | list | dict):
            raise InputError(f"{where} is damaged: {name} is no number")
    return row


def table(rows: Sequence[Row], names: Sequence[Name], where: Path) -> Table:
    """Rows as {name: [members, iterations]}, NaN where one has no value; a last iteration that lacks members is left out.

    names: the members in order. Raises ValueError where rows are missing, twice there, or of other members.
    """
    index, length = {name: i for i, name in enumerate(names)}, len(rows) // len(names)
    seen = np.zeros((len(index), length), int)
    found: Table = {}
    for row in rows:
        if name_of(row) not in index:
            raise InputError(f"{where} is damaged: it has a row of {name_of(row)}, which is no member")
        at = index[name_of(row)], row["iteration"]
        if at[1] >= length:
            continue
        seen[at] += 1
        for name in row.keys() - {"iteration", "config", "seed"}:
            if name not in found:
                found[name] = _empty(row[name], seen.shape)
            if row[name] is not None:
                found[name][at] = row[name]
    if (seen != 1).any():
        raise InputError(f"{where} is damaged: it has not one row for each iteration and member")
    return found


def _empty(like: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array for values such as `like` (None is a float that was no number)."""
    if isinstance(like, bool):
        return np.zeros(shape, bool)
    return np.zeros(shape, np.int32) if isinstance(like, int) else np.full(shape, np.nan, np.float32)
