"""What the host costs: `python -m benchmarks run overhead`.

`jaxrl train` in chunks, with progress, metrics.jsonl and checkpoints, beside one bare `jit(trainer.train)` of the same seed,
in turn in one process; and the share that ten greedy evaluations of 32 episodes take of such a run.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

import jaxrl
from benchmarks import harness
from benchmarks.harness import Row
from jaxrl import cli

ROUNDS = 7


def command(agent: str, out: Path, words: list[str]) -> dict[str, Any]:
    """The summary of `jaxrl train`, called in this process."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        status = cli.main(["train", agent, "--env", "CartPole-v1", "--overwrite", "--json", "--out", str(out), *words])
    assert status == 0, printed.getvalue()
    return json.loads(printed.getvalue().splitlines()[-1])


def beside_bare(agent: str, smoke: bool) -> dict[str, Any]:
    """Seconds of training in the driver and bare, and of evaluating."""
    harness.one_device()
    steps = 2_000 if smoke else 500_000
    trainer = jaxrl.make_trainer(agent, "CartPole-v1", total_steps=steps)
    train, key = jax.jit(trainer.train).lower(jax.random.key(0)).compile(), jax.random.key(0)
    words = ["--total-steps", str(steps), "--eval-every", str(steps // 10)]
    found: dict[str, list[float]] = {"bare": [], "driver": [], "evaluation": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 if smoke else ROUNDS):
            start = time.perf_counter()
            jax.block_until_ready(train(key))
            found["bare"].append(time.perf_counter() - start)
            summary = command(agent, Path(folder) / "run", words)
            found["driver"].append(summary["run_s"])
            found["evaluation"].append(summary["eval_s"])
    medians = {name: harness.median(values) for name, values in found.items()}
    return {
        "work": f"{agent.upper()} CartPole-v1, {trainer.total_steps:,} steps, one seed",
        "median_s": medians,
        "driver_over_bare": medians["driver"] / medians["bare"],
        "evaluation_share": medians["evaluation"] / (medians["driver"] + medians["evaluation"]),
        "must": "driver <= 1.03, evaluation <= 0.1",
        "runs_s": found,
    }


def part(agent: str) -> harness.Part:
    """One agent, in a process of its own."""

    def measured(smoke: bool) -> Iterator[Row]:
        yield harness.apart(smoke, beside_bare, agent, smoke)

    return measured


PARTS = {agent: part(agent) for agent in ("dqn", "ppo")}

SMOKES = ("dqn",)

if __name__ == "__main__":
    harness.main("overhead", PARTS, SMOKES)
