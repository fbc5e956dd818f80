"""How cost grows: `python -m benchmarks run scaling`; `report` draws it.

members: seconds that a member of a sweep costs, from 1 to 64 of them on all devices.
envs: environment steps/s of one seed of PPO with 4 to 1,024 environments, minibatches growing with them.
devices: the same 8 seeds on 1, 2, 4 and 8 CPU devices, of which the machine has as many cores as it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

import jaxrl
from benchmarks.harness import processes, timing
from benchmarks.harness.runner import Row
from jaxrl.devices import platform
from jaxrl.experiment.experiment import resolve

MEMBERS = (1, 2, 4, 8, 16, 32, 64)
ENVS = (4, 16, 64, 256, 1024)
DEVICES = (1, 2, 4, 8)
WORKS = (("ppo", 30_000), ("dqn", 60_000))
CONFIG = {"hidden_sizes": (64, 64)}
REPEATS = 3


def members(smoke: bool) -> Iterator[Row]:
    """The best of some sweeps, one process."""
    for agent, steps in WORKS[-1:] if smoke else WORKS:
        for count in MEMBERS[: 1 if smoke else None]:
            found, steps_each = run_seconds(agent, count, *((11_000, 1) if smoke else (steps, REPEATS)))
            work = f"{agent.upper()} CartPole-v1, {steps_each:,} steps"
            yield {"work": work, "members": count, "seconds_per_member": round(min(found) / count, 4), "runs_s": found}


def run_seconds(agent: str, count: int, steps: int, repeats: int) -> tuple[list[float], int]:
    """Seconds of sweeps over so many seeds, compiling apart; and the steps of a seed, in whole iterations."""
    base = resolve(agent, "CartPole-v1", total_steps=steps, config=CONFIG)
    grid = {"learning_rate": [base.hparams.learning_rate]}
    sweep = partial(jaxrl.sweep, agent, "CartPole-v1", grid=grid, seeds=count, total_steps=steps, config=CONFIG)
    return [sweep().run_s for _ in range(repeats)], base.total_steps


def envs(smoke: bool) -> Iterator[Row]:
    """PPO, 32 steps a rollout, 4 epochs × 4 minibatches, on one device."""
    for count in ENVS[: 1 if smoke else None]:
        yield {"work": "PPO CartPole-v1, 32 steps a rollout", **processes.apart(smoke, steps_per_s, count, smoke)}


def steps_per_s(num_envs: int, smoke: bool) -> dict[str, Any]:
    """Of about a second's work."""
    processes.one_device()
    config = {**CONFIG, "num_envs": num_envs, "rollout_length": 32}
    trainer = jaxrl.make_trainer(
        "ppo", "CartPole-v1", total_steps=2_000 if smoke else 200_000 + 500 * num_envs, config=config
    )
    train, key = jax.jit(trainer.train), jax.random.key(0)
    jax.block_until_ready(train(key))  # compiles
    found = [timing.seconds(train, key) for _ in range(REPEATS)]
    return {
        "num_envs": num_envs,
        "steps_per_s": round(trainer.total_steps / timing.median(found)),
        "runs_s": found,
    }


def devices(smoke: bool) -> Iterator[Row]:
    """Each count in a process of its own, for JAX is told once."""
    for count in DEVICES[: 1 if smoke else None]:
        yield {"work": "PPO CartPole-v1, 8 seeds of 100,000 steps", **processes.apart(smoke, on_devices, count, smoke)}


def on_devices(count: int, smoke: bool) -> dict[str, Any]:
    """Seconds of 8 seeds on so many CPU devices."""
    platform.configure(count)
    found, _ = run_seconds("ppo", 8, *((11_000, 1) if smoke else (100_000, REPEATS)))
    return {"devices": count, "seconds": min(found), "runs_s": found}


PARTS = {"members": members, "envs": envs, "devices": devices}
SMOKES = ("envs", "devices")
