"""How cost grows: `python -m benchmarks run scaling`; `report` draws it.

members: seconds that a member of a sweep costs, from 1 to 64 of them on all devices.
envs: environment steps/s of one seed of PPO with 4 to 1,024 environments, minibatches growing with them.
devices: the same 8 seeds on 1, 2, 4 and 8 CPU devices, of which the machine has as many cores as it has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import jaxrl
from benchmarks import harness
from benchmarks.harness import Row
from jaxrl.devices import platform
from jaxrl.experiment.experiment import resolve
from jaxrl.sweeps import planning

MEMBERS = (1, 2, 4, 8, 16, 32, 64)
ENVS = (4, 16, 64, 256, 1024)
DEVICES = (1, 2, 4, 8)
WORKS = (("ppo", 30_000), ("dqn", 60_000))
CONFIG = {"hidden_sizes": (64, 64)}
REPEATS = 3


def members(smoke: bool) -> Iterator[Row]:
    """The best of some runs of the compiled program, one process."""
    for agent, steps in WORKS[-1:] if smoke else WORKS:
        base = resolve(agent, "CartPole-v1", total_steps=11_000 if smoke else steps, config=CONFIG)
        for count in MEMBERS[: 1 if smoke else None]:
            found = run_seconds(base, count)
            work = f"{agent.upper()} CartPole-v1, {base.total_steps:,} steps"
            yield {"work": work, "members": count, "seconds_per_member": round(min(found) / count, 4), "runs_s": found}


def run_seconds(base: Any, count: int) -> list[float]:
    """Of the program of so many seeds, compiled."""
    (group,) = planning.make(base, [{}], count, 0).groups
    run, trainer = group.waves(0)[0], group.programs.trainer
    found = []
    for _ in range(REPEATS):
        state = group.programs.start(run.arguments(trainer))
        begin = time.perf_counter()
        jax.block_until_ready(group.programs.chunk(state, np.int32(trainer.num_iterations)))
        found.append(time.perf_counter() - begin)
    return found


def envs(smoke: bool) -> Iterator[Row]:
    """PPO, 32 steps a rollout, 4 epochs × 4 minibatches, on one device."""
    for count in ENVS[: 1 if smoke else None]:
        yield {"work": "PPO CartPole-v1, 32 steps a rollout", **harness.apart(smoke, steps_per_s, count, smoke)}


def steps_per_s(num_envs: int, smoke: bool) -> dict[str, Any]:
    """Of about a second's work."""
    harness.one_device()
    config = {**CONFIG, "num_envs": num_envs, "rollout_length": 32}
    trainer = jaxrl.make_trainer(
        "ppo", "CartPole-v1", total_steps=2_000 if smoke else 200_000 + 500 * num_envs, config=config
    )
    found = harness.times(jax.jit(trainer.train), jax.random.key(0), repeats=REPEATS)
    return {
        "num_envs": num_envs,
        "steps_per_s": round(trainer.total_steps / harness.median(found)),
        "runs_s": found,
    }


def devices(smoke: bool) -> Iterator[Row]:
    """Each count in a process of its own, for JAX is told once."""
    for count in DEVICES[: 1 if smoke else None]:
        yield {"work": "PPO CartPole-v1, 8 seeds of 100,000 steps", **harness.apart(smoke, on_devices, count, smoke)}


def on_devices(count: int, smoke: bool) -> dict[str, Any]:
    """Seconds of 8 seeds on so many CPU devices."""
    platform.configure(count)
    base = resolve("ppo", "CartPole-v1", total_steps=1_000 if smoke else 100_000, config=CONFIG)
    found = run_seconds(base, 8)
    return {"devices": count, "seconds": min(found), "runs_s": found}


PARTS = {"members": members, "envs": envs, "devices": devices}

if __name__ == "__main__":
    harness.main("scaling", PARTS)
