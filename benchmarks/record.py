"""Keeping a measurement: what was measured with which settings, on what, when, at which commit, beside which load."""

from __future__ import annotations

import datetime
import json
import os
import platform as machine
from pathlib import Path
from typing import Any

from jaxrl.devices import platform

RESULTS = Path(__file__).parent / "results"
IDENTITY = ("part", "name", "work", "command", "seeds", "members", "devices", "num_envs")  # what a row measured
LONG = ("settings", "measured", "trials", "per_seed")  # kept, not shown


def keep(name: str, rows: list[dict[str, Any]], order: list[str]) -> None:
    """Put rows into benchmarks/results/NAME.json, in place of those of the same work. order: of the parts, or names."""
    file = RESULTS / f"{name}.json"
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    merged = {identity(row): row for row in kept} | {identity(row): row for row in rows}
    place = {part: i for i, part in enumerate(order)}
    save(name, sorted(merged.values(), key=lambda row: place.get(row.get("part", row.get("name", "")), len(order))))


def save(name: str, rows: list[dict[str, Any]]) -> None:
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


def identity(row: dict[str, Any]) -> str:
    """Which work a row measured: rows of the same are set side by side, and replace each other."""
    return ", ".join(str(row[key]) if isinstance(row[key], str) else f"{row[key]} {key}" for key in IDENTITY if key in row)


def stamp() -> dict[str, Any]:
    """When, at which commit, and how many processes wanted a core in the last minute (this one among them)."""
    return {
        "date": datetime.date.today().isoformat(),
        "git_commit": platform.git_commit(),
        "load": round(os.getloadavg()[0], 2),
    }


def show(row: dict[str, Any]) -> None:
    """Print a row as it is measured."""
    short = {k: v for k, v in row.items() if k not in LONG}
    print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in short.items()), flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else machine.processor()
