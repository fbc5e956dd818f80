"""Seconds of compiled programs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax


def seconds(program: Callable[..., Any], *args: Any) -> float:
    """What one call takes, until its results are there."""
    start = time.perf_counter()
    jax.block_until_ready(program(*args))
    return time.perf_counter() - start


def fastest(programs: Mapping[str, tuple[Callable[..., Any], tuple]], rounds: int) -> dict[str, float]:
    """The shortest of `rounds` calls of each program, which take turns; a call before them compiles.

    programs: {name: (program, arguments)}.
    """
    for program, args in programs.values():
        jax.block_until_ready(program(*args))
    best = {name: float("inf") for name in programs}
    for _ in range(rounds):
        for name, (program, args) in programs.items():
            best[name] = min(best[name], seconds(program, *args))
    return best


def median(values: Iterable[float]) -> float:
    """Of one value or more."""
    return float(statistics.median(values))
