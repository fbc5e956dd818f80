"""Sweeps and tuning: `python -m benchmarks run sweeps`.

beside:   4 learning rates × 8 seeds of PPO on CartPole-v1 beside rejax's `vmap` over the same 32, in turn.
programs: training programs compiled for grids.
tuning:   the best of 64 trials of PPO on Acrobot-v1 beside the preset, at equal steps, on fresh seeds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

import jaxrl
from benchmarks.harness import processes
from benchmarks.harness.runner import ANY_WORK, Row
from benchmarks.peers import libraries
from jaxrl.core import stats
from jaxrl.devices import platform
from jaxrl.tuning.search import TuneResult

RATES, SEEDS, STEPS = (1e-4, 3e-4, 1e-3, 3e-3), 8, 500_000
ROUNDS = 2


def beside_rejax(smoke: bool) -> Iterator[Row]:
    """Total steps/s of ours and of rejax, in turn; the median of the rounds."""
    steps = 1_000 if smoke else STEPS
    agent, env = ANY_WORK if smoke else ("ppo", "CartPole-v1")
    runs = {"jaxrl": partial(processes.apart, smoke, ours, agent, env, steps)}
    if not smoke:
        rates = ",".join(map(str, RATES))
        runs["rejax"] = partial(libraries.run, "rejax", "ppo", "CartPole-v1", steps, SEEDS, rates)
    work = f"{agent.upper()} {env}, {len(RATES)} learning rates × {SEEDS} seeds, {steps:,} steps each"
    yield {"work": work, **libraries.row(runs, {"rejax": 2.2}, 1 if smoke else ROUNDS)}


def ours(agent: str, env: str, steps: int) -> dict[str, float]:
    """The same sweep in this process, compilation apart."""
    platform.configure()
    words: dict[str, Any] = {"grid": {"learning_rate": RATES}, "seeds": SEEDS, "total_steps": steps, "preset": env}
    result = jaxrl.sweep(agent, env, **words)
    return {"steps_per_s": result.plan.env_steps / result.run_s}


def programs(smoke: bool) -> Iterator[Row]:
    """Programs that a traced grid compiles, and one with two static values."""
    grids = (({"hidden_sizes": [(32,), (64, 64)]}, 2), ({"learning_rate": RATES, "gamma": [0.98, 0.99]}, 1))
    for grid, must in grids[:1] if smoke else reversed(grids):
        compiled: list[str] = []
        count = partial(_compiling, compiled)
        jax.monitoring.register_event_duration_secs_listener(count)
        result = jaxrl.sweep("ppo", "CartPole-v1", grid=grid, seeds=2, total_steps=1_000 if smoke else 5_000)
        jax.monitoring.unregister_event_duration_listener(count)
        yield {
            "work": f"grid over {', '.join(grid)}",
            "planned": result.plan.programs,
            "compiled": len(compiled),
            "must": must,
        }


def _compiling(compiled: list[str], event: str, seconds: float, **about: Any) -> None:
    """Note each training program that XLA compiles, or takes from its cache."""
    if event == "/jax/core/compile/backend_compile_duration" and "chunk" in str(about.get("fun_name")):
        compiled.append(event)


def tuning(smoke: bool) -> Iterator[Row]:
    """64 trials × 3 seeds from seed 1000 on; then the best setting and the preset on 16 fresh seeds."""
    begin = time.perf_counter()
    short: dict[str, Any] = {"trials": 2, "parallel": 2, "seeds": 1, "confirm": 2, "total_steps": 5_000}
    whole: dict[str, Any] = {"trials": 64, "parallel": 16, "seeds": 3, "confirm": 16}
    agent, env = ANY_WORK if smoke else ("ppo", "Acrobot-v1")
    found = jaxrl.tune(agent, env, **(short if smoke else whole))
    assert isinstance(found, TuneResult) and found.confirmation is not None
    confirmed = found.confirmation
    best, preset = confirmed.final_return
    steps = confirmed.plan.program_list[0].compiled.trainer.total_steps
    yield {
        "work": f"{agent.upper()} {env}, {steps:,} steps a run, 64 trials × 3 seeds",
        "best": {"setting": found.best, "mean": float(best.mean()), "interval": list(confirmed.interval(0))},
        "preset": {"mean": float(preset.mean()), "interval": list(confirmed.interval(1))},
        "per_seed": {"best": best.tolist(), "preset": preset.tolist()},
        "probability_of_improvement": stats.probability_of_improvement(best, preset),
        "improvement_interval": list(stats.improvement_interval(best, preset)),
        "trials": found.trials,
        "seconds": round(time.perf_counter() - begin),
        "must": "better than the preset",
    }


PARTS = {"beside": beside_rejax, "programs": programs, "tuning": tuning}
SMOKES = ("beside", "tuning")
