"""Environment steps/s after compiling, beside other libraries on the same work: `python -m benchmarks run throughput`.

500,000 steps. dqn, ppo: CleanRL's settings with 64-64 hidden units. DQN: 10 environments, replay 10k, learning from step
10k, batch 128, one update per 10 steps, target every 500. PPO: 4 environments × 128 steps, 4 epochs × 4 minibatches, tanh.
pqn: 32 environments × 128 steps, one epoch of 16 minibatches, 64-64 with layer normalisation, images flattened, as in rejax.

Libraries take turns, a process each time; ours and rejax's run the work twice and give the faster run. One seed is
`jit(trainer.train)` on one device as a library user has it, and beside it (`configured`) with `jaxrl.configure()`, whose
flags buy sameness for some speed; several are one `jaxrl.sweep`, configured; rejax's are vmapped. Stable-Baselines3 and sbx
train one seed for 50,000 steps, after 12,000 that do not count. Figures are medians of the rounds.

atari: PPO on Pong from pixels, the preset's network and settings, 16,384 steps of ale-py's emulators in threads of their own
on either side; beside it a PPO in PyTorch as CleanRL writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax

import jaxrl
from benchmarks.harness import processes, timing
from benchmarks.harness.runner import Row
from benchmarks.peers import libraries
from jaxrl.devices import platform
from jaxrl.experiment.experiment import resolve

STEPS, ROUNDS, SMOKE_STEPS = 500_000, 3, 11_000
SHORT = 50_000  # of Stable-Baselines3 and sbx
FRAMES, SMOKE_FRAMES = 16_384, 320  # steps of the emulators
CLEANRL: dict[str, Any] = {"config": {"hidden_sizes": (64, 64)}}
PQN: dict[str, Any] = {
    "config": {
        "num_envs": 32,
        "rollout_length": 128,
        "num_epochs": 1,
        "num_minibatches": 16,
        "hidden_sizes": (64, 64),
        "torso": "mlp",
    },
    "hparams": {"learning_rate": 3e-4, "max_grad_norm": 10.0, "return_lambda": 0.65, "epsilon_fraction": 0.2},
    "preset": "none",
}


def ours(
    agent: str, env: str, steps: int, seeds: int, settings: dict[str, Any], repeats: int, configured: bool = True
) -> dict[str, float]:
    """Steps/s of the same work with jaxrl: the fastest of some runs. configured: whether `jaxrl.configure()` is called."""
    if seeds > 1:
        platform.configure()
        rate = resolve(agent, env, **settings).hparams.learning_rate
        sweep = partial(jaxrl.sweep, agent, env, grid={"learning_rate": [rate]}, seeds=seeds, total_steps=steps, **settings)
        return {"steps_per_s": max(run.plan.env_steps / run.run_s for run in (sweep() for _ in range(repeats)))}
    processes.one_device(configured)
    trainer = jaxrl.make_trainer(agent, env, total_steps=steps, **settings)
    train, key = jax.jit(trainer.train).lower(jax.random.key(0)).compile(), jax.random.key(0)
    return {"steps_per_s": trainer.total_steps / min(timing.seconds(train, key) for _ in range(repeats))}


def row(agent: str, env: str, seeds: int, settings: dict[str, Any], must: dict[str, float], smoke: bool) -> Row:
    """One work beside the peers that `must` names, with the ratio that each must reach."""
    steps = SMOKE_STEPS if smoke else STEPS
    apart = partial(processes.apart, smoke, ours, agent, env, steps, seeds, settings, 1 if smoke else 2)
    runs = {"jaxrl": partial(apart, False), "configured": apart} if seeds == 1 else {"jaxrl": apart}
    for peer in () if smoke else must:
        words = (agent, env, steps, seeds) if peer == "rejax" else (agent, SHORT)
        runs[peer] = partial(libraries.run, peer, *words)
    return {
        "work": f"{agent.upper()} {env}",
        "seeds": seeds,
        **libraries.row(runs, must, 1 if smoke else ROUNDS),
        "settings": resolve(agent, env, total_steps=steps, **settings).to_json(),
    }


def dqn(smoke: bool) -> Iterator[Row]:
    """CleanRL's DQN."""
    yield row("dqn", "CartPole-v1", 1, CLEANRL, {"rejax": 3.0, "sb3": 25.0, "sbx": 25.0}, smoke)
    yield row("dqn", "CartPole-v1", 8, CLEANRL, {"rejax": 4.5}, smoke)


def ppo(smoke: bool) -> Iterator[Row]:
    """CleanRL's PPO."""
    yield row("ppo", "CartPole-v1", 1, CLEANRL, {"rejax": 1.2, "sb3": 24.0, "sbx": 24.0}, smoke)
    yield row("ppo", "CartPole-v1", 8, CLEANRL, {"rejax": 2.3}, smoke)


def pqn(smoke: bool) -> Iterator[Row]:
    """rejax's PQN."""
    for env in ("CartPole-v1", "Breakout-MinAtar"):
        yield row("pqn", env, 1, PQN, {"rejax": 1.3}, smoke)


def atari(smoke: bool) -> Iterator[Row]:
    """PPO on Pong from pixels."""
    steps = SMOKE_FRAMES if smoke else FRAMES
    settings: dict[str, Any] = {"config": {"rollout_length": 10, "num_minibatches": 1}} if smoke else {}
    apart = partial(processes.apart, smoke, ours, "ppo", "ale:Pong", steps, 1, settings, 1 if smoke else 2)
    runs = {"jaxrl": partial(apart, False), "configured": apart}
    if not smoke:
        runs["torch"] = partial(libraries.run, "torch", "pong", steps)
    yield {
        "work": "PPO ale:Pong",
        "seeds": 1,
        **libraries.row(runs, {"torch": 2.0}, 1 if smoke else ROUNDS),
        "settings": resolve("ppo", "ale:Pong", total_steps=steps, **settings).to_json(),
    }


PARTS = {"dqn": dqn, "ppo": ppo, "pqn": pqn, "atari": atari}
SMOKES = ("dqn",)  # one seed, and several
