"""Keeping a measurement: what was measured, on what, when, at which commit."""

from __future__ import annotations

import datetime
import json
import platform as machine
from pathlib import Path
from typing import Any

from jaxrl import platform

RESULTS = Path(__file__).parent / "results"


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


def stamp() -> dict[str, Any]:
    """When and at which commit: for a row of a file whose rows are measured one by one."""
    return {"date": datetime.date.today().isoformat(), "git_commit": platform.git_commit()}


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows as they are measured."""
    for row in rows:
        print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else machine.processor()
