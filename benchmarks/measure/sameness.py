"""Whose bits depend on the vmap width, of agents in dynamics with sin and cos: `python -m benchmarks run sameness`.

Each width's `jit(vmap(train))` on one CPU device, as a library user compiles it; a member's final state and metrics are
compared with those of the same seed at the last width. Presets' settings, few steps. A word picks an agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks.harness import processes
from benchmarks.harness.runner import Part, Row

WIDTHS = (*range(1, 17), 33, 64)
STEPS = 2048
WORK = {"ppo": "Acrobot-v1", "a2c": "Acrobot-v1", "dqn": "Acrobot-v1", "sac": "Pendulum-v1", "td3": "Pendulum-v1"}
LIMIT = 3600.0  # seconds of a process


def numbers(trainer: Any, width: int) -> list[np.ndarray]:
    """Leaves [width, ...] of the final states and metrics of seeds 0, 1, …"""
    keys = jax.vmap(jax.random.key)(jnp.arange(width))
    state, metrics = jax.jit(jax.vmap(trainer.train))(keys)
    return [np.asarray(x) for x in jax.tree.leaves((state._replace(key=jax.random.key_data(state.key)), metrics))]


def differing(agent: str, env: str, widths: list[int], steps: int) -> list[int]:
    """The widths at which some seed has other bits than at the last width."""
    processes.one_device()
    config = {"learning_starts": 500} if agent in ("dqn", "sac", "td3") else {}
    trainer = jaxrl.make_trainer(agent, env, total_steps=steps, config=config)
    wide = numbers(trainer, widths[-1])

    def differ(width: int) -> bool:
        narrow = numbers(trainer, width)
        return any(x.tobytes() != y[:width].tobytes() for x, y in zip(narrow, wide, strict=True))

    return [width for width in widths[:-1] if differ(width)]


def part(agent: str, env: str) -> Part:
    """The part of one agent."""

    def rows(smoke: bool) -> Iterator[Row]:
        widths, steps = ([1, 2], 1_000) if smoke else (list(WIDTHS), STEPS)
        found = processes.apart(smoke, differing, agent, env, widths, steps, limit=LIMIT)
        yield {"work": f"{agent} {env}, {steps} steps", "widths": widths, "other_bits_at": found, "must": "none"}

    return rows


PARTS = {agent: part(agent, env) for agent, env in WORK.items()}
SMOKES = ("dqn",)
