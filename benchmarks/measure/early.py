"""What an agent has learnt after few steps, beside Stable-Baselines3: `python -m benchmarks run early`.

A curve that rises in the end hides targets that move too slowly or updates that are left out; early budgets show them.
Seeds 0 to 7, each evaluated greedily in 32 episodes; mean and 95 % bootstrap interval over seeds. jaxrl trains under its
preset, SB3 under its zoo's settings for Pendulum-v1: step size 1e-3, for TD3 Gaussian noise of 0.1 of the action's range,
and its defaults otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks.harness import processes
from benchmarks.harness.runner import Part, Row
from benchmarks.peers import libraries
from jaxrl.core import stats

MUST = {"sac": {6_000: ">= -250", 12_000: ">= -160"}, "td3": {6_000: "report", 12_000: "report"}}
SEEDS, EPISODES = 8, 32
LIMIT = 3600.0  # seconds of a process


def ours(agent: str, points: list[int], seeds: int, episodes: int) -> list[list[float]]:
    """Mean greedy returns [points][seeds] of jaxrl, after each number of steps in `points`."""
    trainer = jaxrl.make_trainer(agent, "Pendulum-v1")

    def train(state: Any, iterations: jax.Array) -> Any:
        return jax.lax.fori_loop(0, iterations, lambda _, s: trainer.step(s)[0], state)

    def mean_return(state: Any) -> jax.Array:
        return jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=episodes).returns.mean()

    train_all, evaluate_all = jax.jit(jax.vmap(train, (0, None))), jax.jit(jax.vmap(mean_return))
    states, done, returns = jax.vmap(trainer.init)(jax.vmap(jax.random.key)(jnp.arange(seeds))), 0, []
    for point in points:
        iterations = -(-point // trainer.steps_per_iteration)
        states, done = train_all(states, iterations - done), iterations
        returns.append(np.asarray(evaluate_all(states)).tolist())
    return returns


def over_seeds(scores: list[float]) -> dict[str, Any]:
    """Mean, interval and each seed's score."""
    low, high = stats.bootstrap_interval(np.array(scores))
    return {"mean": float(np.mean(scores)), "ci": [low, high], "per_seed": scores}


def pendulum(agent: str, smoke: bool) -> Iterator[Row]:
    """A row for each number of steps."""
    must = {300: "report"} if smoke else MUST[agent]
    seeds, episodes = (2, 2) if smoke else (SEEDS, EPISODES)
    returns = {"jaxrl": processes.apart(smoke, ours, agent, list(must), seeds, episodes, limit=LIMIT)}
    missing = {}
    try:
        theirs = [] if smoke else [libraries.run("sb3_early", agent, seed, episodes, *must) for seed in range(seeds)]
        returns |= {"sb3": np.array([run["returns"] for run in theirs]).T.tolist()} if theirs else {}
    except libraries.Missing as why:
        missing = {"sb3": str(why)}
    for i, (steps, asked) in enumerate(must.items()):
        found = {library: over_seeds(each[i]) for library, each in returns.items()}
        work = {"work": f"{agent.upper()} Pendulum-v1, {steps:,} steps", "steps": steps, "seeds": seeds}
        yield {**work, **found, "must": asked, "missing": missing}


PARTS: dict[str, Part] = {agent: partial(pendulum, agent) for agent in MUST}
SMOKES = ("td3",)
