"""Result files, benchmarks/results/NAME.json: rows, each with its settings, date, commit and the load of the machine."""

from __future__ import annotations

import datetime
import json
import os
import platform as machine
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.devices import platform

Row = Mapping[str, Any]
RESULTS = Path(__file__).parents[1] / "results"
IDENTITY = ("part", "name", "work", "command", "seeds", "members", "devices", "num_envs")  # what a row measured
LONG = ("settings", "measured", "trials", "per_seed")  # kept, not shown


def keep(name: str, rows: Sequence[Row], order: list[str]) -> None:
    """Put rows into benchmarks/results/NAME.json, in place of those of the same work. order: of the parts, or names."""
    file = RESULTS / f"{name}.json"
    kept = read(file) if file.exists() else []
    merged = {identity(row): row for row in kept} | {identity(row): row for row in rows}
    place = {part: i for i, part in enumerate(order)}
    save(name, sorted(merged.values(), key=lambda row: place.get(row.get("part", row.get("name", "")), len(order))))


def read(file: Path) -> list[Row]:
    """Rows of a result file. Raises ValueError where it is none."""
    try:
        return json.loads(file.read_text())["rows"]
    except FileNotFoundError:
        raise InputError(f"no result file {file}") from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no result file: {error!r}") from error


def save(name: str, rows: Sequence[Row]) -> None:
    """Write benchmarks/results/NAME.json: rows, hardware, versions, date, commit."""
    values = {
        "date": datetime.date.today().isoformat(),
        "device": platform.device(),
        "processor": _processor(),
        "versions": platform.versions(),
        "git_commit": platform.git_commit(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n")


def identity(row: Row) -> str:
    """Which work a row measured: rows of the same are set side by side, and replace each other."""
    return ", ".join(str(row[key]) if isinstance(row[key], str) else f"{row[key]} {key}" for key in IDENTITY if key in row)


def stamp() -> dict[str, Any]:
    """When, at which commit, and how many processes wanted a core in the last minute (this one among them)."""
    return {
        "date": datetime.date.today().isoformat(),
        "git_commit": platform.git_commit(),
        "load": round(os.getloadavg()[0], 2),
    }


def show(row: Row) -> None:
    """Print a row as it is measured."""
    short = {k: v for k, v in row.items() if k not in LONG}
    print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in short.items()), flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else machine.processor()
