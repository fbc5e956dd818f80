"""What the agents learn, by the protocol of learning.toml: `python -m benchmarks run learning [WORD...]`.

A word picks the rows whose name contains it. Returns are means of greedy evaluation episodes after training, one a seed, all
kept; mean, IQM and bootstrap intervals are over seeds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness, measures, oracles
from benchmarks.harness import Row

PROTOCOL = Path(__file__).with_suffix(".toml")
SMOKE = {"total_steps": 11_000, "seeds": 2}


def measured(entry: dict[str, Any], smoke: bool) -> Iterator[Row]:
    """One row of the protocol."""
    entry = {"measure": "returns", **entry, **(SMOKE if smoke else {})}
    name, measure = entry.pop("name"), getattr(measures, entry.pop("measure"))
    if "oracle" in entry:
        oracle = dict(entry["oracle"])
        entry["oracle"] = getattr(oracles, oracle.pop("name"))(**oracle)
    if "policy" in entry:
        entry["policy"] = getattr(measures, entry["policy"])
    yield {"name": name, **measure(**entry)}


ROWS = tomllib.loads(PROTOCOL.read_text())["row"]
PARTS: dict[str, harness.Part] = {row["name"]: partial(measured, row) for row in ROWS}
# One row for each way to measure.
SMOKES = list({row.get("measure", "returns"): row["name"] for row in reversed(ROWS)}.values())

if __name__ == "__main__":
    harness.main("learning", PARTS, SMOKES)
