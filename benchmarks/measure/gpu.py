"""Many seeds on one accelerator beside published figures: `benchmarks/gpu.sh`, or `python -m benchmarks run gpu`.

Published are PureJaxRL's on an A100: PPO on CartPole-v1, 2,048 seeds of 500,000 steps, in 98 s; on Breakout-MinAtar, 256
seeds of 10,000,000 steps, in 325 s. Ours are one `jaxrl.sweep` each with the same settings of an iteration, compiling apart.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax

import jaxrl
from benchmarks.harness import processes
from benchmarks.harness.runner import Part, Row
from jaxrl.core.errors import InputError


class Work(NamedTuple):
    """published_s: seconds on an A100. limit_s: how long the process may take."""

    env: str
    seeds: int
    steps: int
    config: dict[str, Any]
    published_s: float
    limit_s: float


CARTPOLE = {"num_envs": 4, "rollout_length": 128, "num_epochs": 4, "num_minibatches": 4, "hidden_sizes": (64, 64)}
BREAKOUT = {
    "num_envs": 64,
    "rollout_length": 128,
    "num_epochs": 4,
    "num_minibatches": 8,
    "torso": "mlp",
    "hidden_sizes": (64, 64),
}
WORKS = {
    "cartpole": Work("CartPole-v1", 2048, 500_000, CARTPOLE, 98.0, 150.0),
    "breakout": Work("Breakout-MinAtar", 256, 10_000_000, BREAKOUT, 325.0, 350.0),
}


def seconds(part: str, smoke: bool) -> dict[str, float]:
    """Of one sweep over seeds."""
    work = WORKS[part]
    result = jaxrl.sweep(
        "ppo",
        work.env,
        grid={"learning_rate": [2.5e-4]},
        seeds=2 if smoke else work.seeds,
        total_steps=2_000 if smoke else work.steps,
        config=work.config,
        preset="none",
    )
    return {"compile_s": result.compile_s, "run_s": result.run_s, "mean_return": float(result.final_return.mean())}


def measured(part: str, smoke: bool) -> Iterator[Row]:
    """One work, in a process of its own."""
    if jax.default_backend() == "cpu" and not smoke:
        raise InputError("no accelerator is here; `--smoke` only sees that it runs")
    work = WORKS[part]
    row: Row = {"work": f"PPO {work.env}, {work.steps:,} steps", "seeds": work.seeds, "published_s": work.published_s}
    try:
        found = processes.apart(smoke, seconds, part, smoke, limit=work.limit_s)
    except subprocess.TimeoutExpired:
        yield {**row, "missing": f"overran {work.limit_s:.0f} s"}
        return
    share = found["run_s"] / work.published_s
    yield {
        **row,
        **found,
        "steps_per_s": round(work.seeds * work.steps / found["run_s"]),
        "of_published": share,
        "must": 0.5,
    }


PARTS: dict[str, Part] = {part: partial(measured, part) for part in WORKS}
SMOKES = ("cartpole",)
