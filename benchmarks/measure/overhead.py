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

from benchmarks.harness import processes, timing
from benchmarks.harness.runner import Part, Row, part_apart
from jaxrl.devices import platform
from jaxrl.experiment.experiment import resolve
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps.waves import Options

ROUNDS = 5


def beside_bare(agent: str, smoke: bool) -> dict[str, Any]:
    """Seconds of training bare, in the driver, and in the driver with ten evaluations, whose own are apart."""
    processes.one_device()
    steps = 11_000 if smoke else 500_000
    experiment = resolve(agent, "CartPole-v1", total_steps=steps)
    silent = plans.make_run(experiment, 1, 0)
    watched = dataclasses.replace(silent, eval_every=steps // 10)  # the same compiled programs
    trainer = silent.program_list[0].compiled.trainer
    train, key = jax.jit(trainer.train).lower(jax.random.key(0)).compile(), jax.random.key(0)
    found: dict[str, list[float]] = {"bare": [], "driver": [], "watched driver": [], "evaluation": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 if smoke else ROUNDS):
            found["bare"].append(timing.seconds(train, key))
            summary = sweeps.train(silent, Path(folder) / "run", overwrite=True)
            found["driver"].append(summary["run_s"])
            summary = sweeps.train(watched, Path(folder) / "run", overwrite=True)
            found["watched driver"].append(summary["run_s"])
            found["evaluation"].append(summary["eval_s"])
    medians = {name: timing.median(values) for name, values in found.items()}
    return {
        "work": f"{agent.upper()} CartPole-v1, {trainer.total_steps:,} steps, one seed",
        "median_s": medians,
        "driver_over_bare": medians["driver"] / medians["bare"],
        "watched_over_bare": medians["watched driver"] / medians["bare"],
        "evaluation_share": medians["evaluation"] / (medians["watched driver"] + medians["evaluation"]),
        "must": "driver <= 1.03, evaluation <= 0.1",
        "runs_s": found,
    }


def beside_files_alone(sink: str, seeds: int, smoke: bool) -> dict[str, Any]:
    """Seconds of training with a sink and without; of the whole call, at whose end a sink catches up; and its CPU seconds,
    which other load on the machine does not touch, of all threads but no other process.
    """
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    platform.configure()
    experiment = resolve("ppo", "CartPole-v1", total_steps=2_000 if smoke else 500_000)
    plan = plans.make_run(experiment, seeds, 0)
    trainer, layout = plan.program_list[0].compiled.trainer, plan.program_list[0].compiled.layout
    ways = {"files alone": Options()}
    ways[sink] = Options(tensorboard=sink == "tensorboard", wandb="overhead" if sink == "wandb" else None)
    found: dict[str, list[float]] = {f"{way}{what}": [] for way in ways for what in ("", ", whole", ", cpu")}
    with tempfile.TemporaryDirectory() as folder:
        sweeps.train(plan, Path(folder) / "run", ways["files alone"])  # compiles
        for _ in range(1 if smoke else ROUNDS):
            for way, options in ways.items():
                start, cpu = time.perf_counter(), time.process_time()
                summary = sweeps.train(plan, Path(folder) / "run", options, overwrite=True)
                found[f"{way}, whole"].append(time.perf_counter() - start)
                found[f"{way}, cpu"].append(time.process_time() - cpu)
                found[way].append(summary["run_s"])
    medians = {name: timing.median(values) for name, values in found.items()}
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


def sink_part(sink: str) -> Part:
    """One seed and eight, each in a process of its own."""

    def measured(smoke: bool) -> Iterator[Row]:
        for seeds in (1,) if smoke else (1, 8):
            yield processes.apart(smoke, beside_files_alone, sink, seeds, smoke, limit=600.0)

    return measured


AGENTS, SINKS = ("dqn", "ppo"), ("tensorboard", "wandb")
PARTS = {agent: part_apart(beside_bare, agent) for agent in AGENTS} | {sink: sink_part(sink) for sink in SINKS}
SMOKES = ("dqn", "tensorboard")
