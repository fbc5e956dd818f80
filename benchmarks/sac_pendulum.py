"""SAC early on Pendulum-v1, beside Stable-Baselines3: `python -m benchmarks.sac_pendulum [--sb3 PYTHON] [--seeds N]`.

Writes results/sac_pendulum.json: after 6,000 and after 12,000 steps the mean over seeds 0 to 7 of a greedy evaluation of 32
episodes each, with its 95 % bootstrap interval. jaxrl trains under its preset, SB3 under the settings that its zoo has for
Pendulum-v1 (learning rate 1e-3, else the library's: 256-256 units, batch 256, τ = 0.005, one gradient step a step).

--sb3: the interpreter of an environment with stable-baselines3 2.9.2; without it SB3 is said not to have run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl.core import stats
from jaxrl.devices import platform

RESULT = Path(__file__).parent / "results" / "sac_pendulum.json"
MUST = {6_000: -250.0, 12_000: -160.0}  # steps: least mean return
EPISODES = 32
SB3 = """
import json, sys
import numpy as np, torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
torch.set_num_threads(1)
seed, episodes, *points = map(int, sys.argv[1:])
model, found = SAC("MlpPolicy", "Pendulum-v1", learning_rate=1e-3, seed=seed, device="cpu"), []
for point in points:
    model.learn(point - model.num_timesteps, reset_num_timesteps=False)
    found.append(evaluate_policy(model, model.get_env(), n_eval_episodes=episodes, deterministic=True)[0])
    model._last_obs = None  # evaluation has stepped the environment: training goes on from a reset
print(json.dumps(found))
"""


def ours(seeds: int) -> np.ndarray:
    """Returns [points, seeds]."""
    trainer = jaxrl.make_trainer("sac", "Pendulum-v1")

    def returns(state: Any) -> jax.Array:
        return jaxrl.evaluate(trainer, state, jax.random.key(1), episodes=EPISODES).returns.mean()

    def train(state: Any, iterations: jax.Array) -> Any:
        return jax.lax.fori_loop(0, iterations, lambda _, s: trainer.step(s)[0], state)

    go_on, evaluated = jax.jit(jax.vmap(train, (0, None))), jax.jit(jax.vmap(returns))
    states, done, found = jax.vmap(trainer.init)(jax.vmap(jax.random.key)(jnp.arange(seeds))), 0, []
    for point in MUST:
        iterations = -(-point // trainer.steps_per_iteration)
        states, done = go_on(states, iterations - done), iterations
        found.append(np.asarray(evaluated(states)))
    return np.stack(found)


def theirs(python: str, seed: int) -> list[float]:
    """Returns [points] of SB3."""
    words = [python, "-c", SB3, str(seed), str(EPISODES), *map(str, MUST)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def rows(library: str, returns: np.ndarray) -> list[dict[str, Any]]:
    """A row for each number of steps."""
    found = []
    for (steps, must), scores in zip(MUST.items(), returns, strict=True):
        low, high = stats.bootstrap_interval(scores) if len(scores) > 1 else (float(scores[0]),) * 2
        row: dict[str, Any] = {
            "library": library,
            "steps": steps,
            "seeds": len(scores),
            "mean": round(float(scores.mean()), 1),
        }
        row |= {"ci_low": round(low, 1), "ci_high": round(high, 1), "per_seed": [round(float(x), 1) for x in scores]}
        found.append(row | ({"must": f">= {must:g}", "ok": bool(scores.mean() >= must)} if library == "jaxrl" else {}))
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sb3")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    platform.configure()
    values: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": platform.device(),
        "load": round(os.getloadavg()[0], 2),
        "versions": platform.versions(),
        "git_commit": platform.git_commit(),
        "rows": rows("jaxrl", ours(options.seeds)),
        "sb3": "in rows, as far as its seeds were run" if options.sb3 else "not run",
    }
    RESULT.write_text(json.dumps(values, indent=2) + "\n")
    found: list[list[float]] = []
    for seed in range(options.seeds if options.sb3 else 0):  # minutes each: what there is, is kept
        found.append(theirs(options.sb3, seed))
        both = values["rows"] + rows("sb3", np.array(found).T)
        RESULT.write_text(json.dumps({**values, "rows": both}, indent=2) + "\n")


if __name__ == "__main__":
    main()
