"""What the agents learn, by the protocol of learning.toml: `python -m benchmarks run learning [WORD...]`.

A word picks the rows whose name contains it. Returns are means of greedy evaluation episodes after training, one a seed, all
kept; mean, IQM and bootstrap intervals are over seeds. A row's `measure` names the function here that trains and gives it.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks import oracles
from benchmarks.harness import processes
from benchmarks.harness.runner import Part, Row
from jaxrl.core import stats
from jaxrl.core.loop import Trainer
from jaxrl.core.spaces import Product, sizes
from jaxrl.devices.layout import Layout
from jaxrl.envs import garnet
from jaxrl.experiment.experiment import resolve
from jaxrl.show import pictures
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import waves

PROTOCOL = Path(__file__).with_suffix(".toml")
SMOKE = {"total_steps": 11_000, "seeds": 2}
EPISODES = 100
LONG = processes.ROOT / "runs" / "learning"
POINTS = 20  # of a learning curve
GAMMA, TEMPERATURE = 0.9, 3.0  # of the random processes, whose values differ by about as much


def returns(
    agent: str,
    env: str,
    must: str,
    *,
    seeds: int = 8,
    published: str | None = None,
    evaluate_in: dict[str, Any] | None = None,
    folder: str | None = None,
    **settings: Any,
) -> Row:
    """Train `seeds` seeds and evaluate each: mean, IQM and interval over seeds, and the curve in training.

    published: the figure to set libraries. evaluate_in: arguments of the environment to evaluate in, where they are others.
    folder: in runs/learning, for work of hours; a measurement that was stopped goes on there.
    """
    trainer = jaxrl.make_trainer(agent, env, **settings)
    layout = Layout.over_all_devices(seeds)
    if folder:
        found = _in_folder(LONG / folder, agent, env, seeds, settings)
        states, metrics, seconds = layout.pad(found.states), found.metrics, found.run_s
    else:
        keys = layout.pad(jax.vmap(jax.random.key)(jnp.arange(seeds)))
        start = time.perf_counter()
        states, metrics = jax.block_until_ready(layout.map(trainer.train)(keys))
        metrics, seconds = layout.unpad(metrics), time.perf_counter() - start

    judge = jaxrl.make_trainer(agent, env, **{**settings, "env_kwargs": evaluate_in}) if evaluate_in else trainer

    def evaluate(state: Any) -> jax.Array:
        spec, key = judge.env.spec, jax.random.fold_in(state.key, 999)
        episodes, split = max(EPISODES, spec.eval_episodes), "test" if spec.splits else None
        return jaxrl.evaluate(judge, state, key, episodes, split=split).returns.mean()

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
        "published": published,
        "seconds": round(seconds, 1),
        "curve": curve(metrics),
        "settings": resolve(agent, env, **settings).to_json(),
    }


def _in_folder(out: Path, agent: str, env: str, seeds: int, settings: dict[str, Any]) -> Any:
    """The RunResult of a run in a directory, which is trained or gone on with there first."""
    if out.exists():
        sweeps.resume(out, waves.Options(), pictures.draw)
    else:
        jaxrl.train(agent, env, seeds=seeds, out=out, **settings)
    return jaxrl.load(out)


def curve(metrics: Any) -> dict[str, list[float | None]]:
    """Mean return of the episodes that ended in each of POINTS equal parts of training, with intervals over seeds.

    metrics: {name: [seeds, iterations]}. None where no episode ended on some seed.
    """
    returns, episodes, steps = (np.asarray(metrics[name]) for name in ("episode_return", "episodes", "env_steps"))
    sums = np.where(episodes > 0, returns * episodes, 0)
    found: dict[str, list[float | None]] = {"env_steps": [], "mean": [], "low": [], "high": []}
    for part in np.array_split(np.arange(steps.shape[1]), min(POINTS, steps.shape[1])):
        count = episodes[:, part].sum(1)
        means = sums[:, part].sum(1) / np.maximum(count, 1)
        point = (means.mean(), *stats.bootstrap_interval(means)) if count.all() else (None, None, None)
        found["env_steps"].append(int(steps[0, part[-1]]))
        for name, value in zip(("mean", "low", "high"), point, strict=True):
            found[name].append(None if value is None else float(value))
    return found


def q_table(trainer: Trainer, num_states: int, state: Any) -> jax.Array:
    """The values of every state and action: float32 [S, A]. A state of several integers counts by its number."""
    assert trainer.agent.values is not None
    states: Any = jnp.arange(num_states)
    if isinstance(space := trainer.env.spec.observation_space, Product):
        states = space.join(jnp.unravel_index(states, sizes(space) or ()))
    return trainer.agent.values(state.hparams, state.agent, states)


def q_error(
    agent: str,
    env: str,
    oracle: np.ndarray,
    must: str,
    *,
    visited: int = 1,
    seeds: int = 8,
    env_kwargs: dict | None = None,
    **settings: Any,
) -> Row:
    """The worst error of a tabular agent's values beside `oracle`, where known, on pairs visited at least so often."""
    trainer = jaxrl.make_trainer(agent, env, env_kwargs=env_kwargs, **settings)
    errors, pairs = [], []
    for seed in range(seeds):
        state, _ = jax.jit(trainer.train)(jax.random.key(seed))
        visits = np.asarray(state.agent.visits).reshape(-1, *oracle.shape).sum(0)  # of two tables together
        seen = (visits >= visited) & ~np.isnan(oracle)
        q = np.asarray(q_table(trainer, len(oracle), state))
        errors.append(float(np.abs(q - oracle)[seen].max()))
        pairs.append(int(seen.sum()))
    return {
        "steps": trainer.total_steps,
        "seeds": seeds,
        "max_abs_error": max(errors),
        "per_seed": errors,
        "pairs_compared": pairs,
        "must": must,
    }


def garnet_error(
    agent: str,
    must: str,
    *,
    policy: Callable[[np.ndarray], np.ndarray] | None = None,
    exploration: str = "epsilon_greedy",
    seeds: int = 20,
    total_steps: int = 500_000,
) -> Row:
    """Learn as many random processes as seeds at once, members of one program: the worst error of a value over all of them.

    policy: Q [S, A] -> π [S, A], whose value the learnt one must be; None compares with Q*. Explores uniformly (ε = 1) or
    by Boltzmann.
    """
    process_keys, run_keys = jax.random.split(jax.random.key(0), (2, seeds))
    params = jax.vmap(lambda key: garnet.draw(key, 10, 3, 3))(process_keys)
    trainer = jaxrl.make_trainer(
        agent,
        garnet.make(),
        total_steps=total_steps,
        config={"num_envs": 16, "exploration": exploration},
        hparams={
            "temperature": TEMPERATURE,
            "learning_rate": 1.0,
            "learning_rate_decay": 0.7,
            "gamma": GAMMA,
            "epsilon_end": 1.0,
        },
        preset="none",
    )
    states, _ = jax.jit(jax.vmap(trainer.train, (0, None, 0)))(run_keys, None, params)
    learnt = jax.vmap(partial(q_table, trainer, 10))(states)
    errors = []
    for q, p, r in zip(*(np.asarray(x, np.float64) for x in (learnt, params.probability, params.reward)), strict=True):
        exact = oracles.policy_evaluation(p, r, policy(q), GAMMA) if policy else oracles.value_iteration(p, r, GAMMA)
        errors.append(float(np.abs(q - exact).max()))
    return {"steps": trainer.total_steps, "processes": seeds, "max_abs_error": max(errors), "per_seed": errors, "must": must}


def uniform_policy(q: np.ndarray) -> np.ndarray:
    """π(a | s) = 1 / A."""
    return np.full_like(q, 1 / q.shape[-1])


def boltzmann_policy(q: np.ndarray) -> np.ndarray:
    """π(a | s) ∝ exp(Q(s, a) / TEMPERATURE)."""
    weights = np.exp((q - q.max(-1, keepdims=True)) / TEMPERATURE)
    return weights / weights.sum(-1, keepdims=True)


def online_return(agent: str, env: str, must: str, *, seeds: int = 32, last: float = 0.2, **settings: Any) -> Row:
    """Mean return in training, exploration included, of the episodes that ended in the `last` share of the preset's run."""
    trainer = jaxrl.make_trainer(agent, env, **settings)
    _, metrics = jax.jit(jax.vmap(trainer.train))(jax.vmap(jax.random.key)(jnp.arange(seeds)))
    rows = slice(-max(1, int(last * trainer.num_iterations)), None)
    returns, episodes = (np.asarray(metrics[name])[:, rows] for name in ("episode_return", "episodes"))
    mean = float(np.where(episodes > 0, returns * episodes, 0).sum() / episodes.sum())
    return {"steps": trainer.total_steps, "seeds": seeds, "mean": mean, "episodes": int(episodes.sum()), "must": must}


MEASURES = {measure.__name__: measure for measure in (returns, q_error, garnet_error, online_return)}
POLICIES = {policy.__name__: policy for policy in (uniform_policy, boltzmann_policy)}


def measured(entry: dict[str, Any], smoke: bool) -> Iterator[Row]:
    """One row of the protocol."""
    entry = {"measure": "returns", **entry, **(SMOKE if smoke else {})}
    name, measure = entry.pop("name"), MEASURES[entry.pop("measure")]
    if "oracle" in entry:
        oracle = dict(entry["oracle"])
        entry["oracle"] = getattr(oracles, oracle.pop("name"))(**oracle)
    if "policy" in entry:
        entry["policy"] = POLICIES[entry["policy"]]
    yield {"name": name, **measure(**entry)}


ROWS = tomllib.loads(PROTOCOL.read_text())["row"]
PARTS: dict[str, Part] = {row["name"]: partial(measured, row) for row in ROWS}
# One row for each way to measure.
SMOKES = list({row.get("measure", "returns"): row["name"] for row in reversed(ROWS)}.values())
