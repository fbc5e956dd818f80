"""Wall time, process start included, to a trained policy: `python -m benchmarks run threshold`.

`jaxrl train AGENT --env CartPole-v1` with the preset, one seed, and a greedy evaluation of 32 episodes every 50,000 steps.
The mark is passed with the first evaluation in metrics.jsonl of at least 475; the run goes on, and its end, pictures drawn,
is taken too. The compile cache is warm: one run before those that count fills it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import processes, timing
from benchmarks.harness.runner import ANY_WORK, Part, Row

MARK, EVERY, SEEDS = 475.0, 50_000, 5


def passed(metrics: Path) -> int | None:
    """The environment steps of the first evaluation that passes the mark; None before there is one."""
    if not metrics.exists():
        return None
    for line in metrics.read_text().splitlines(keepends=True):
        if line.endswith("\n") and (row := json.loads(line)).get("eval_return", 0) >= MARK:
            return row["env_steps"]
    return None


def timed(agent: str, env: str, seed: int, folder: Path) -> dict[str, Any]:
    """One run, watched from outside."""
    out = folder / f"{agent}-{seed}"
    words = ["train", agent, "--env", env, "--seed", str(seed), "--eval-every", str(EVERY)]
    command = [*processes.JAXRL, *words, "--out", str(out), "--json"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    mark_s, mark_steps = None, None
    while process.poll() is None:
        time.sleep(0.02)
        if mark_s is None and (mark_steps := passed(out / "metrics.jsonl")):
            mark_s = time.perf_counter() - start
    end_s = time.perf_counter() - start
    summary = json.loads(process.communicate()[0].splitlines()[-1])
    return {"mark_s": mark_s, "mark_steps": mark_steps, "end_s": end_s, "final_return": summary["final_return"]["mean"]}


def cartpole(agent: str, smoke: bool) -> Iterator[Row]:
    """The seeds that pass the mark, and when."""
    agent, env = ANY_WORK if smoke else (agent, "CartPole-v1")
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(1 if smoke else SEEDS + 1)
        runs = [timed(agent, env, seed, Path(folder)) for seed in seeds][0 if smoke else 1 :]
    reached = [run["mark_s"] for run in runs if run["mark_s"]]
    yield {
        "work": f"{agent.upper()} {env} (preset), greedy return >= {MARK:.0f}",
        "passed": f"{len(reached)} of {len(runs)} seeds",
        "median_s": timing.median(reached) if reached else None,
        "end_median_s": timing.median(run["end_s"] for run in runs),
        "must": "<= 6",
        "seconds": [run["mark_s"] for run in runs],
        "steps": [run["mark_steps"] for run in runs],
        "end_s": [run["end_s"] for run in runs],
        "final_return": [run["final_return"] for run in runs],
    }


PARTS: dict[str, Part] = {agent: partial(cartpole, agent) for agent in ("dqn", "ppo")}
SMOKES = ("dqn",)
