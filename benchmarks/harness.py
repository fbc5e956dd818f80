"""What every benchmark shares: parts that give rows, measuring in a process apart, and a smoke of seconds.

A benchmark is a module with PARTS: {name: function(smoke) -> rows}. `smoke` asks only that everything runs, as CI does: the
numbers mean nothing then, are printed and not kept, and nothing is installed.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks import record
from jaxrl.core.errors import InputError, unknown
from jaxrl.devices import platform

ROOT = Path(__file__).parent.parent
TIME_LIMIT = 300.0  # seconds of a process: a vmapped peer can hang on CPU

Row = dict[str, Any]
Part = Callable[[bool], Iterable[Row]]


def main(name: str, parts: Mapping[str, Part], smokes: Collection[str] = ()) -> None:
    """The command line of a benchmark: `[--smoke] [WORD...]`: parts whose name contains a word; without one all of them.

    smokes: the parts that a smoke without a word runs, by default all.
    """
    words, smoke = [word for word in sys.argv[1:] if word != "--smoke"], "--smoke" in sys.argv[1:]
    platform.configure()  # before a row is kept: that asks for the device, and starts the backend
    try:
        measure(name, parts, words or (smokes if smoke else ()), smoke=smoke)
    except InputError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        sys.exit(2)


def measure(name: str, parts: Mapping[str, Part], words: Collection[str] = (), *, smoke: bool = False) -> list[Row]:
    """Rows of the parts that `words` name, or whose name contains one; each shown and kept as soon as it is measured."""
    wanted = set() if words else set(parts)
    for word in words:
        found = {word} & set(parts) or {part for part in parts if word in part}
        if not found:
            raise unknown(f"part of {name}", word, list(parts))
        wanted |= found
    rows = []
    for part in (part for part in parts if part in wanted):
        for row in parts[part](smoke):
            rows.append({**({} if "name" in row else {"part": part}), **row, "measured": record.stamp()})
            record.show(rows[-1])
            if not smoke:
                record.keep(name, rows[-1:], list(parts))
    return rows


def apart(smoke: bool, function: Callable[..., Any], *args: Any, limit: float = TIME_LIMIT) -> Any:
    """`function(*args)` in a process of its own, so that no measurement finds what another left; a smoke calls it here.

    Arguments and result are plain values. Raises subprocess.TimeoutExpired past `limit` seconds.
    """
    if smoke:
        return function(*args)
    module = function.__module__
    if module == "__main__":  # python -m benchmarks.NAME
        module = sys.modules[module].__spec__.name  # type: ignore[union-attr]
    words = [sys.executable, "-m", "benchmarks.harness", module, function.__name__, json.dumps(args)]
    return last_line(words, limit)


def last_line(words: list[str], limit: float) -> Any:
    """The last line that a process prints, as JSON. Raises subprocess.TimeoutExpired past `limit` seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=limit, check=True, cwd=ROOT, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def one_device() -> None:
    """As a library user finds JAX: a single CPU device. Nothing is compiled before it is asked for."""
    platform.configure(1)
    jax.config.update("jax_enable_compilation_cache", False)


def times(program: Callable[..., Any], *args: Any, repeats: int = 7) -> list[float]:
    """Seconds of each of some runs; one before them compiles."""
    jax.block_until_ready(program(*args))
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(program(*args))
        found.append(time.perf_counter() - start)
    return found


def median(values: Iterable[float]) -> float:
    """Of one value or more."""
    return float(statistics.median(values))


if __name__ == "__main__":
    module, function, given = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(module), function)(*json.loads(given))))
