"""Sweeps over machines by Ray: `python -m benchmarks run machines`.

overhead: a sweep of 64 members on a local cluster of two workers beside the same sweep without Ray, in turn.
kills:    the same, a worker killed at random moments: members lost, trained twice to the end, or with other bits.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

import jaxrl
from benchmarks.harness import processes, ray_cluster, timing
from benchmarks.harness.runner import Row
from jaxrl.devices import platform
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import resolve
from jaxrl.runs import metrics
from jaxrl.runs.documents import CONFIG
from jaxrl.runs.metrics import TIMING, TIMING_ROW
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import reading, waves
from jaxrl.sweeps.waves import Options

WORKERS, ROUNDS, KILLS = 2, 3, 5
RATES, SEEDS = (1e-4, 3e-4, 1e-3, 3e-3), 16
STEPS = {"overhead": 300_000, "kills": 100_000}
SMOKES = ("overhead",)  # a kill costs the seconds of a worker's start; tests/sweeps/test_ray_engine.py has some
LIMIT = 900.0  # seconds of a sweep


def overhead(smoke: bool) -> Iterator[Row]:
    """Seconds of a sweep from its plan to its summary, compiling included; those that Ray took to start are apart."""
    steps = 0 if smoke else STEPS["overhead"]
    found: dict[str, list[float]] = {"local": [], "ray": [], "ray_start": []}
    for _ in range(1 if smoke else ROUNDS):
        with nothing_compiled(smoke), directory() as home:
            row = processes.apart(smoke, swept, str(home / "out"), None, steps, limit=LIMIT)
        found["local"].append(row["seconds"])
        with nothing_compiled(smoke), directory() as home, ray_cluster.cluster(WORKERS) as address:
            row = processes.apart(False, swept, str(home / "out"), address, steps, limit=LIMIT)
        found["ray"].append(row["seconds"] - row["start_s"])
        found["ray_start"].append(row["start_s"])
    ratio = timing.median(found["ray"]) / timing.median(found["local"])
    yield {"work": work(steps), "workers": WORKERS, "rounds": found, "ratio": round(ratio, 3), "must": 1.1}


def kills(smoke: bool) -> Iterator[Row]:
    """A worker is killed, and 3 to 15 seconds later again."""
    steps, killed = 0 if smoke else STEPS["kills"], 0
    with ray_cluster.cluster(WORKERS) as address, directory() as home:
        whole, out = home / "whole", home / "killed"
        processes.apart(False, swept, str(whole), None, steps, limit=LIMIT)
        begin = time.perf_counter()
        sweep = subprocess.Popen(processes.command(swept, str(out), address, steps), cwd=processes.ROOT)
        while killed < (1 if smoke else KILLS) and sweep.poll() is None:
            time.sleep(0.1 if smoke else random.uniform(3, 15))
            for worker in random.sample(alive := ray_cluster.busy_workers(address), min(1, len(alive))):
                worker.kill()
                killed += 1
        if sweep.wait(LIMIT):
            raise RuntimeError(f"the sweep failed with exit code {sweep.returncode}")
        seconds = time.perf_counter() - begin
        yield {
            "work": work(steps),
            "kills": killed,
            "seconds": round(seconds, 1),
            **difference(whole, out),
            "must": "0, 0, 0",
        }


def work(steps: int) -> str:
    """What is swept, in words."""
    if not steps:
        return "Q-learning CliffWalking, 4 members"
    return f"PPO CartPole-v1, {len(RATES)} learning rates × {SEEDS} seeds, {steps:,} steps each"


def swept(out: str, address: str | None, steps: int) -> dict[str, float]:
    """A sweep in this process, or on the workers of a cluster: its seconds, and those that Ray took to start.

    steps: of each member; 0 for a smoke.
    """
    platform.configure()
    if steps:
        base = resolve("ppo", "CartPole-v1", total_steps=steps, config={"hidden_sizes": (64, 64)})
    else:
        base = resolve("q_learning", "CliffWalking", total_steps=2_000)
    settings, asked = search_space.configurations(base, {"learning_rate": RATES[: None if steps else 2]}, {}, 0, 0)
    engine: dict[str, Any] = {"engine": "ray", "ray_address": address, "cpus_per_worker": 1} if address else {}
    begin, start = time.time(), 0.0
    plan = plans.make(base, settings, SEEDS if steps else 2, 0, asked, fit=not address)
    planned = time.time()
    sweeps.train(plan, Path(out), Options(checkpoint_every=2.0), **engine)
    if address:
        start = (Path(out) / CONFIG).stat().st_mtime - planned
    return {"seconds": time.time() - begin, "start_s": start}


def difference(a: Path, b: Path) -> dict[str, int]:
    """Of two directories of one sweep: members that the second lost, trained twice to the end, or has other bits of."""
    plan = reading.read_plan(b)
    there = waves.found(plan, b)
    lost = sum(map(len, waves.missing(plan, there))) + sum(len(wave.members) for wave in there if not wave.finished)
    if lost:
        return {"lost": lost}
    one, other = jaxrl.load(a), jaxrl.load(b)
    changed = 0
    for c, s in np.ndindex(one.final_return.shape):
        leaves = [
            [*(x[c, s] for _, x in sorted(found.metrics.items())), *jax.tree.leaves(found.agent(c, s)[1].agent)]
            for found in (one, other)
        ]
        same = (np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(*leaves, strict=True))
        changed += not all(same)
    steps = one.plan.program_list[0].compiled.trainer.total_steps
    timings = [metrics.read(path / TIMING, TIMING_ROW) for path in (b / "waves").iterdir()]
    twice = [sum(row["env_steps"] == steps for row in rows) > 1 for rows in timings]
    return {"lost": lost, "twice": sum(twice), "other_bits": changed}


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """One for results, until the end."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextlib.contextmanager
def nothing_compiled(smoke: bool) -> Iterator[None]:
    """An empty compilation cache for the processes started in this context; a smoke keeps the usual one."""
    with directory() as home, mock.patch.dict(os.environ, {} if smoke else {"JAX_COMPILATION_CACHE_DIR": str(home)}):
        yield


PARTS = {"overhead": overhead, "kills": kills}
