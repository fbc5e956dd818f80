"""Bytes: `python -m benchmarks run memory`.

programs: what the compiled training program of one seed holds at its peak, by XLA's own analysis.
replay: bytes that a stored transition takes, beside those of float32 observations.
plan: what a sweep's plan predicts beside the growth of the process's peak (Linux: VmHWM), DQN with a replay of 200,000.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil

import jaxrl
from benchmarks.harness import processes
from benchmarks.harness.runner import Row
from jaxrl.core import trees
from jaxrl.devices import platform
from jaxrl.devices.layout import Layout
from jaxrl.devices.programs import Programs
from jaxrl.experiment import registry
from jaxrl.experiment.experiment import resolve
from jaxrl.sweeps import plan as plans

MEMBERS = (1, 2, 4, 8, 16, 32, 64)
REPLAY = {"replay_capacity": 200_000, "torso": "minatar"}


def programs(smoke: bool) -> Iterator[Row]:
    """The presets' programs."""
    works = (("dqn", "CartPole-v1"), ("ppo", "CartPole-v1"), ("dqn", "Breakout-MinAtar"), ("ppo", "Breakout-MinAtar"))
    for agent, env in works[: 1 if smoke else None]:
        found = Programs(jaxrl.make_trainer(agent, env), Layout(1, 1)).peak_bytes()
        yield {"work": f"{agent.upper()} {env} (preset)", "bytes": found}


def replay(smoke: bool) -> Iterator[Row]:
    """The state with a large replay less that with a small one, a transition."""
    small, large = (20, 40) if smoke else (10_000, 20_000)
    for env in ("CartPole-v1", "Breakout-MinAtar", "SpaceInvaders-MinAtar")[: 1 if smoke else None]:

        def held(capacity: int, env: str = env) -> int:
            trainer = jaxrl.make_trainer("dqn", env, preset="none", config={"replay_capacity": capacity})
            state = jax.eval_shape(trainer.init, jax.random.key(0))
            return trees.nbytes(state.agent.experience.replay)

        shape = registry.find_env(env).spec.observation_space.shape  # type: ignore[union-attr]
        bytes_each = (held(large) - held(small)) / (large - small)
        yield {
            "work": f"DQN {env}, a transition",
            "bytes": bytes_each,
            "two float32 observations": int(2 * 4 * np.prod(shape)),
        }


def plan(smoke: bool) -> Iterator[Row]:
    """Each count of members in a process of its own."""
    for members in MEMBERS[: 1 if smoke else None]:
        found = processes.apart(smoke, grown, members, 2_000 if smoke else REPLAY["replay_capacity"])
        work = "DQN Breakout-MinAtar, replay of 200,000"
        yield {"work": work, **found, "ratio": found["predicted"] / found["measured"], "must": "0.8 to 1.2"}


def grown(members: int, capacity: int) -> dict[str, Any]:
    """Predicted and measured bytes of a sweep of so many seeds. Run twice: compiling has a peak of its own."""
    platform.configure()
    base = resolve(
        "dqn",
        "Breakout-MinAtar",
        total_steps=200_000,
        preset="none",
        config={**REPLAY, "replay_capacity": capacity},
    )
    (program,) = plans.make(base, [{}], members, 0).program_list
    wave = program.waves(0)[0]
    arguments = wave.arguments(program.compiled.trainer)
    jax.block_until_ready(program.compiled.chunk(program.compiled.start(arguments), np.int32(1)))
    gc.collect()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    jax.block_until_ready(program.compiled.chunk(program.compiled.start(arguments), np.int32(1)))
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    measured = max(1, int(status) * 1024 - before)  # a smoke grows by nothing
    return {"members": members, "predicted": program.bytes, "measured": measured}


PARTS = {"programs": programs, "replay": replay, "plan": plan}
