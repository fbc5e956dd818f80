"""What the host costs: `python -m benchmarks run overhead`.

The driver, in chunks with progress, metrics.jsonl and checkpoints, beside one bare `jit(trainer.train)` of the same seed, in
turn in one process; and with ten greedy evaluations of 32 episodes, and the share that these take. And the driver with a
sink beside the driver with metrics.jsonl alone; W&B is offline.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks import harness
from benchmarks.harness import Row
from jaxrl.devices import platform
from jaxrl.devices.layout import Layout
from jaxrl.devices.programs import Programs
from jaxrl.experiment.experiment import resolve
from jaxrl.runs import run, rundir

ROUNDS = 5


def beside_bare(agent: str, smoke: bool) -> dict[str, Any]:
    """Seconds of training bare, in the driver, and in the driver with ten evaluations, whose own are apart."""
    harness.one_device()
    steps = 11_000 if smoke else 500_000
    experiment = resolve(agent, "CartPole-v1", total_steps=steps)
    trainer, one = experiment.trainer(), Layout(1, 1)
    train, key = jax.jit(trainer.train).lower(jax.random.key(0)).compile(), jax.random.key(0)
    silent = rundir.Run(experiment, rundir.seeds_of(0, 1), eval_every=0, layout=one)
    watched = dataclasses.replace(silent, eval_every=steps // 10)
    programs, options = Programs(trainer, one), run.Options(pictures=False)
    found: dict[str, list[float]] = {"bare": [], "driver": [], "watched driver": [], "evaluation": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 if smoke else ROUNDS):
            start = time.perf_counter()
            jax.block_until_ready(train(key))
            found["bare"].append(time.perf_counter() - start)
            summary = run.train(silent, Path(folder) / "run", options, overwrite=True, programs=programs)
            found["driver"].append(summary["run_s"])
            summary = run.train(watched, Path(folder) / "run", options, overwrite=True, programs=programs)
            found["watched driver"].append(summary["run_s"])
            found["evaluation"].append(summary["eval_s"])
    medians = {name: harness.median(values) for name, values in found.items()}
    return {
        "work": f"{agent.upper()} CartPole-v1, {trainer.total_steps:,} steps, one seed",
        "median_s": medians,
        "driver_over_bare": medians["driver"] / medians["bare"],
        "watched_over_bare": medians["watched driver"] / medians["bare"],
        "evaluation_share": medians["evaluation"] / (medians["watched driver"] + medians["evaluation"]),
        "must": "driver <= 1.03, evaluation <= 0.1",
        "runs_s": found,
    }


def part(agent: str) -> harness.Part:
    """One agent, in a process of its own."""

    def measured(smoke: bool) -> Iterator[Row]:
        yield harness.apart(smoke, beside_bare, agent, smoke)

    return measured


def beside_files_alone(sink: str, seeds: int, smoke: bool) -> dict[str, Any]:
    """Seconds of training with a sink and without; of the whole call, at whose end a sink catches up; and its CPU seconds,
    which other load on the machine does not touch, of all threads but no other process.
    """
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    platform.configure()
    experiment = resolve("ppo", "CartPole-v1", total_steps=2_000 if smoke else 500_000)
    trainer, layout = experiment.trainer(), Layout.over_all_devices(seeds)
    described, programs = rundir.Run(experiment, rundir.seeds_of(0, seeds), 0, layout), Programs(trainer, layout)
    ways = {"files alone": run.Options(pictures=False)}
    ways[sink] = run.Options(
        pictures=False, tensorboard=sink == "tensorboard", wandb="overhead" if sink == "wandb" else None
    )
    found: dict[str, list[float]] = {f"{way}{what}": [] for way in ways for what in ("", ", whole", ", cpu")}
    with tempfile.TemporaryDirectory() as folder:
        run.train(described, Path(folder) / "run", ways["files alone"], programs=programs)  # compiles
        for _ in range(1 if smoke else ROUNDS):
            for way, options in ways.items():
                start, cpu = time.perf_counter(), time.process_time()
                summary = run.train(described, Path(folder) / "run", options, overwrite=True, programs=programs)
                found[f"{way}, whole"].append(time.perf_counter() - start)
                found[f"{way}, cpu"].append(time.process_time() - cpu)
                found[way].append(summary["run_s"])
    medians = {name: harness.median(values) for name, values in found.items()}
    return {
        "work": f"PPO CartPole-v1, {trainer.total_steps:,} steps, {sink}",
        "seeds": seeds,
        "devices": layout.devices,
        "median_s": medians,
        "sink_over_files": medians[sink] / medians["files alone"],
        "cpu_over_files": medians[f"{sink}, cpu"] / medians["files alone, cpu"],
        "must": "sink <= 1.03",
        "runs_s": found,
    }


def sink_part(sink: str) -> harness.Part:
    """One seed and eight, each in a process of its own."""

    def measured(smoke: bool) -> Iterator[Row]:
        for seeds in (1,) if smoke else (1, 8):
            yield harness.apart(smoke, beside_files_alone, sink, seeds, smoke, limit=600.0)

    return measured


AGENTS, SINKS = ("dqn", "ppo"), ("tensorboard", "wandb")
PARTS = {agent: part(agent) for agent in AGENTS} | {sink: sink_part(sink) for sink in SINKS}
SMOKES = ("dqn", "tensorboard")

if __name__ == "__main__":
    harness.main("overhead", PARTS, SMOKES)
