"""What the agents learn: `python -m benchmarks.learning [NAME ...]` measures and keeps benchmarks/results/learning.json.

Returns are means of greedy evaluation episodes after training, one a seed; seeds 0 … 7 are reported, tuning used others.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from jaxrl import platform

if __name__ == "__main__":
    platform.configure()

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks import record
from benchmarks.oracles import frozen_lake_q, random_game_q
from jaxrl import stats
from jaxrl.layout import Layout

EPISODES = 100


def returns(agent: str, env: str, must: str, *, seeds: int = 8, **settings: Any) -> dict[str, Any]:
    """Train `seeds` seeds and evaluate each: mean, IQM and interval over seeds."""
    trainer = jaxrl.make_trainer(agent, env, **settings)
    layout = Layout.over_all_devices(seeds)
    keys = layout.pad(jax.vmap(jax.random.key)(jnp.arange(seeds)))
    start = time.perf_counter()
    states, _ = jax.block_until_ready(layout.map(trainer.train)(keys))
    seconds = time.perf_counter() - start

    def evaluate(state: Any) -> jax.Array:
        return jaxrl.evaluate(trainer, state, jax.random.fold_in(state.key, 999), EPISODES).returns.mean()

    scores = np.asarray(layout.unpad(layout.map(evaluate)(states)))
    low, high = stats.bootstrap_interval(scores)
    return {
        "steps": trainer.total_steps,
        "seeds": seeds,
        "mean": float(scores.mean()),
        "iqm": float(stats.iqm(scores)),
        "ci": [low, high],
        "per_seed": [float(x) for x in scores],
        "must": must,
        "seconds": round(seconds, 1),
    }


def q_error(
    env: str, oracle: np.ndarray, must: str, *, visited: int = 1, env_kwargs: dict | None = None, **settings: Any
) -> dict[str, Any]:
    """Train Q-learning and compare its table with `oracle` on pairs visited at least so often: the worst error."""
    trainer = jaxrl.make_trainer("q_learning", env, env_kwargs=env_kwargs, **settings)
    errors, pairs = [], []
    for seed in range(8):
        state, _ = jax.jit(trainer.train)(jax.random.key(seed))
        seen = np.asarray(state.agent.visits) >= visited
        errors.append(float(np.abs(np.asarray(state.agent.q) - oracle)[seen].max()))
        pairs.append(int(seen.sum()))
    return {
        "steps": trainer.total_steps,
        "seeds": 8,
        "max_abs_error": max(errors),
        "per_seed": errors,
        "pairs_compared": pairs,
        "must": must,
    }


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "dqn CartPole-v1 (preset: CleanRL's settings)": lambda: returns("dqn", "CartPole-v1", ">= 475 on every seed"),
    "reinforce CartPole-v1 (preset)": lambda: returns("reinforce", "CartPole-v1", "mean >= 450"),
    "q_learning FrozenLake-misc, no slipping": lambda: q_error(
        "FrozenLake-misc",
        frozen_lake_q(0.99, slippery=False),
        "<= 0.02",
        env_kwargs={"is_slippery": False},
        total_steps=500_000,
        hparams={"gamma": 0.99, "learning_rate": 0.5, "learning_rate_decay": 0.0},
    ),
    "q_learning FrozenLake-misc, slippery": lambda: q_error(
        "FrozenLake-misc",
        frozen_lake_q(0.95, slippery=True),
        "<= 0.05 on pairs visited >= 1,000 times",
        visited=1000,
    ),
    "q_learning RandomGame": lambda: q_error(
        "RandomGame",
        random_game_q(0.9, num_states=10, num_actions=3),
        "<= 0.02",
    ),
}


def main(names: list[str]) -> None:
    """Measure those whose name contains one of `names` (all by default); others keep their former figure."""
    file = record.RESULTS / "learning.json"
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}
    for name, measure in MEASUREMENTS.items():
        if not names or any(part in name for part in names):
            rows[name] = {"name": name, **measure()}
            record.show([rows[name]])
    record.save("learning", [rows[name] for name in MEASUREMENTS if name in rows])


if __name__ == "__main__":
    main(sys.argv[1:])
