"""Where PPO's time goes on Breakout-MinAtar: `python -m benchmarks.phases` keeps benchmarks/results/phases.json.

64 environments × 128 steps, 4 epochs × 8 minibatches, one seed on one device. An iteration is timed as a whole, and so are
its parts as programs of their own: the environments under actions drawn before, the rollout (environments and acting), and
learning. What acting takes is the rollout's time less the environments'.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jaxrl import platform

if __name__ == "__main__":
    platform.configure(1)

import jax
import jax.numpy as jnp

import jaxrl
from benchmarks import record
from jaxrl.loop import Moving, Trainer
from jaxrl.types import Clock, PyTree, Rollout, TrainState

REPEATS = 7


def seconds(program: Callable[..., Any], *args: Any) -> float:
    """The fastest of some runs of a compiled program."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(program(*args))
        times.append(time.perf_counter() - start)
    return min(times)


def environments(trainer: Trainer) -> Callable[[TrainState], PyTree]:
    """The steps of one iteration under random actions, reset pool included."""
    vec, (t, n) = trainer.vec, (trainer.rollout_length, trainer.vec.num_envs)
    space = trainer.env.spec.action_space

    def program(state: TrainState) -> PyTree:
        keys = jax.random.split(jax.random.key(0), (t, n))
        actions = jax.vmap(jax.vmap(space.sample))(keys)

        def step(carry: tuple, xs: tuple) -> tuple:
            env, pool = carry
            action, keys = xs
            env, obs, pool, out = vec.step(keys, env, pool, action, state.env_params)
            return (env, pool), (obs, out.reward)

        pool = vec.prepare(jax.random.key(1), state.env_params)
        return jax.lax.scan(step, (state.env, pool), (actions, keys))

    return jax.jit(program)


def rollout(trainer: Trainer) -> Callable[[TrainState], tuple[Moving, Rollout]]:
    """The steps of one iteration under the agent."""
    t, n = trainer.rollout_length, trainer.vec.num_envs

    def program(state: TrainState) -> tuple[Moving, Rollout]:
        pool = trainer.vec.prepare(jax.random.key(1), state.env_params)
        moving = Moving(state.env, pool, state.obs, state.first, state.memory, state.episode)
        keys = jax.random.split(jax.random.key(2), t), jax.random.split(jax.random.key(3), (t, n))
        clock = Clock(jnp.int32(t * n), jnp.float32(0))
        moving, steps, _ = trainer._rollout(state, state.agent, moving, *keys, clock)
        return moving, Rollout(steps, state.memory)

    return jax.jit(program)


def main() -> None:
    """Measure one trainer's iteration and its parts."""
    config = {"num_epochs": 4, "num_minibatches": 8, "updates_per_iteration": 1}
    trainer = jaxrl.make_trainer("ppo", "Breakout-MinAtar", config=config)
    state = trainer.init(jax.random.key(0))
    _, steps = rollout(trainer)(state)
    learn = jax.jit(trainer.agent.learn)
    clock = Clock(jnp.int32(trainer.steps_per_iteration), jnp.float32(0))
    parts: dict[str, tuple[Callable[..., Any], tuple]] = {
        "iteration": (jax.jit(trainer.step), (state,)),
        "environments": (environments(trainer), (state,)),
        "rollout": (rollout(trainer), (state,)),
        "learn": (learn, (state.hparams, state.agent, steps, clock, jax.random.key(4))),
    }
    times = {}
    for name, (program, args) in parts.items():
        jax.block_until_ready(program(*args))  # compiles
        times[name] = seconds(program, *args)
    whole, act = times["iteration"], times["rollout"] - times["environments"]
    shares = {"environments": times["environments"] / whole, "act": act / whole, "learn": times["learn"] / whole}
    row = {
        "work": "PPO Breakout-MinAtar, 64 × 128 steps, 4 epochs × 8 minibatches, CNN of 16 filters and 128 units, shared",
        "steps_per_s": round(trainer.steps_per_iteration / whole),
        "seconds": times,
        "share": shares,
    }
    record.show([row])
    record.save("phases", [row])


if __name__ == "__main__":
    main()
