"""Sweeps over machines by Ray: `python -m benchmarks run machines`.

overhead: a sweep of 64 members on a local cluster of two workers beside the same sweep without Ray, in turn.
kills:    the same, a worker killed at random moments: members lost, trained twice to the end, or with other bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import psutil

from benchmarks import harness
from benchmarks.harness import Row
from jaxrl.devices import platform
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import resolve
from jaxrl.runs import metrics
from jaxrl.runs.documents import CONFIG
from jaxrl.runs.metrics import TIMING, TIMING_ROW
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import waves
from jaxrl.sweeps.result import SweepResult

WORKERS, ROUNDS, KILLS = 2, 3, 5
RATES, SEEDS = (1e-4, 3e-4, 1e-3, 3e-3), 16
STEPS = {"overhead": 300_000, "kills": 100_000}
SMOKES = ("overhead",)  # a kill costs the seconds of a worker's start; tests/test_ray_engine.py has some
LIMIT = 900.0  # seconds of a sweep


def overhead(smoke: bool) -> Iterator[Row]:
    """Seconds of a sweep from its plan to its summary, compiling included; those that Ray took to start are apart."""
    steps = 0 if smoke else STEPS["overhead"]
    found: dict[str, list[float]] = {"local": [], "ray": [], "ray_start": []}
    for _ in range(1 if smoke else ROUNDS):
        with nothing_compiled(smoke), directory() as home:
            row = harness.apart(smoke, swept, str(home / "out"), None, steps, limit=LIMIT)
        found["local"].append(row["seconds"])
        with nothing_compiled(smoke), directory() as home, cluster() as address:
            row = harness.apart(False, swept, str(home / "out"), address, steps, limit=LIMIT)
        found["ray"].append(row["seconds"] - row["start_s"])
        found["ray_start"].append(row["start_s"])
    ratio = harness.median(found["ray"]) / harness.median(found["local"])
    yield {"work": work(steps), "workers": WORKERS, "rounds": found, "ratio": round(ratio, 3), "must": 1.1}


def kills(smoke: bool) -> Iterator[Row]:
    """A worker is killed, and 3 to 15 seconds later again."""
    steps, killed = 0 if smoke else STEPS["kills"], 0
    with cluster() as address, directory() as home:
        whole, out = home / "whole", home / "killed"
        harness.apart(False, swept, str(whole), None, steps, limit=LIMIT)
        words = [sys.executable, "-m", "benchmarks.harness", "benchmarks.machines", "swept"]
        words.append(json.dumps([str(out), address, steps]))
        begin = time.perf_counter()
        process = subprocess.Popen(words, cwd=harness.ROOT)
        while killed < (1 if smoke else KILLS) and process.poll() is None:
            time.sleep(0.1 if smoke else random.uniform(3, 15))
            for worker in random.sample(alive := busy_workers(address), min(1, len(alive))):
                worker.kill()
                killed += 1
        if process.wait(LIMIT):
            raise RuntimeError(f"the sweep failed with exit code {process.returncode}")
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
    sweeps.train(plan, Path(out), waves.Options(checkpoint_every=2.0), **engine)
    if address:
        start = (Path(out) / CONFIG).stat().st_mtime - planned
    return {"seconds": time.time() - begin, "start_s": start}


def difference(a: Path, b: Path) -> dict[str, int]:
    """Of two directories of one sweep: members that the second lost, trained twice to the end, or has other bits of."""
    plan = sweeps.read_plan(b)
    parts = waves.found(plan, b)
    lost = sum(map(len, waves.missing(plan, parts))) + sum(len(part.members) for part in parts if not part.finished)
    if lost:
        return {"lost": lost}
    one, other = sweeps.load(a), sweeps.load(b)
    assert isinstance(one, SweepResult) and isinstance(other, SweepResult)
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


@contextlib.contextmanager
def cluster(workers: int = WORKERS) -> Iterator[str]:
    """A cluster of this machine alone, with room for so many workers of one core: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    with _started(workers, *head):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def another_machine(address: str, workers: int) -> Iterator[subprocess.Popen]:
    """A second machine of a cluster, played by this one: the process above all of its processes."""
    with _started(workers, f"--address={address}") as process:
        yield process


@contextlib.contextmanager
def _started(workers: int, *words: str) -> Iterator[subprocess.Popen]:
    """`ray start` until the end.

    Workers have this process's environment, and its priority: Ray's own choice is to let others go first.
    """
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets lie there: their paths must be short
    program = str(Path(sys.executable).with_name("ray"))
    common = ["--block", f"--num-cpus={workers}", "--node-ip-address=127.0.0.1", "--dashboard-agent-listen-port=0"]
    common += [f"--temp-dir={home}"]
    with open(home / "out", "w") as out:
        environment = os.environ | {"RAY_worker_niceness": "0"}
        process = subprocess.Popen([program, "start", *common, *words], stdout=out, stderr=out, env=environment)
    try:
        while "Ray runtime started" not in (said := (home / "out").read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"Ray did not start: {said}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def busy_workers(address: str) -> list[psutil.Process]:
    """The processes of the cluster there that train a wave at this moment: Ray names them after what they are at."""
    port, found = address.rpartition(":")[2], []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::Worker.train"):
                parent = process.parent()
                found += [process] if parent and any(word.endswith(f":{port}") for word in parent.cmdline()) else []
    return found


PARTS = {"overhead": overhead, "kills": kills}

if __name__ == "__main__":
    harness.main("machines", PARTS, SMOKES)
