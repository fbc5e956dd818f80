"""Measuring in a process of its own, so that no measurement finds what another left behind.

The child is `python -m benchmarks.harness.processes MODULE FUNCTION ARGUMENTS`; its last line is the result as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxrl.devices import platform

ROOT = Path(__file__).parents[2]  # of the repository
JAXRL = [sys.executable, "-m", "jaxrl"]
TIME_LIMIT = 300.0  # seconds of a process: a vmapped peer can hang on CPU


def apart(smoke: bool, function: Callable[..., Any], *args: Any, limit: float = TIME_LIMIT) -> Any:
    """`function(*args)` in a process of its own; a smoke calls it in this one.

    Arguments and result are plain values. Raises subprocess.TimeoutExpired past `limit` seconds.
    """
    return function(*args) if smoke else last_line(command(function, *args), limit)


def command(function: Callable[..., Any], *args: Any) -> list[str]:
    """The words that start such a process."""
    return [sys.executable, "-m", "benchmarks.harness.processes", function.__module__, function.__name__, json.dumps(args)]


def last_line(words: list[str], limit: float) -> Any:
    """The last line that a process prints, as JSON. Raises subprocess.TimeoutExpired past `limit` seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=limit, check=True, cwd=ROOT, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def one_device(configured: bool = True) -> None:
    """A single CPU device, no compilation cache; not `configured`, as a library user finds JAX who did not call
    `jaxrl.configure()`. To be called before anything compiles.
    """
    if configured:
        platform.configure(1)
    jax.config.update("jax_enable_compilation_cache", False)


if __name__ == "__main__":
    module, name, given = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(given))))
