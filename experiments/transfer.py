"""Pre-training, transfer, fine-tuning and generalisation, measured.

`python experiments/transfer.py [digits breakout mazes levels frozen] [--seeds N]` keeps rows in
benchmarks/results/transfer.json and draws docs/figures/transfer-*.png. Runs lie in runs/transfer; finished ones are not
trained again, stopped ones go on.

digits     a torso that classified handwritten digits, then names others for noisy rewards, by PPO and DQN
breakout   20 episodes of a trained PPO cloned, then PPO held to the clone by KL
mazes      PPO with memory in mazes of 7 × 7, then in those of 11 × 11
levels     PPO in 20, 200 and 2,000 mazes: returns there and in mazes never seen, with weight decay, with dropout
frozen     time of learning with a frozen torso and with all of it
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script: benchmarks/ is not installed

from jaxrl.devices import platform

if __name__ == "__main__":
    platform.configure()

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import jaxrl
from benchmarks.harness import result_files
from jaxrl.core import stats
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Env, EnvSpec, EnvStep
from jaxrl.envs import digits_bandit

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RUNS = Path("runs/transfer")
FIGURES = Path(__file__).parents[1] / "docs" / "figures"
TUNING = 100  # the first seed of what settings were chosen by; reported are seeds from 0 on
Rows = list[dict[str, Any]]


def trained(name: str, agent: str, env: str, **options: Any) -> Any:
    """The result of a run, or with a `grid` of a sweep, under RUNS, trained where it is not finished yet."""
    out = RUNS / name
    if (out / "config.json").is_file():
        from jaxrl.runs import documents
        from jaxrl.sweeps import directory as sweeps

        if not (out / documents.SUMMARY).is_file():
            sweeps.resume(out)
        return jaxrl.load(out)
    return (jaxrl.sweep if "grid" in options else jaxrl.train)(agent, env, out=out, **options)


def row_of(part: str, name: str, returns: np.ndarray, **more: Any) -> dict[str, Any]:
    """A row of the result file: final returns of seeds, their mean and 95 % interval."""
    low, high = stats.seed_interval(returns)
    row = {"part": part, "name": name, "seeds": len(returns), "mean": float(returns.mean()), "ci_low": float(low),
           "ci_high": float(high), **more, "per_seed": [float(x) for x in returns]}  # fmt: skip
    result_files.show(row)
    return row | result_files.stamp()


def drawn(name: str, title: str, draw: Callable[[Any], None]) -> None:
    """A figure of the documentation."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    draw(axes)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / f"transfer-{name}.png", dpi=110)
    plt.close(figure)


def interval(axes: Any, x: Any, rows: Rows, label: str) -> None:
    """Means with their intervals over x."""
    mean = np.array([row["mean"] for row in rows])
    low, high = (np.array([row[key] for row in rows]) for key in ("ci_low", "ci_high"))
    axes.errorbar(x, mean, [mean - low, high - mean], marker="o", capsize=3, label=label)


BUDGETS = (1_000, 2_000, 5_000)
FLIPPED = 0.3  # of the rewards: from scratch a network has to learn what digits look like from them
ON_DIGITS: dict[str, dict[str, Any]] = {  # of three learning rates, on seeds from TUNING on
    "ppo": {
        "config": {"num_envs": 8, "rollout_length": 4, "num_minibatches": 2, "hidden_sizes": (64,), "activation": "relu"},
        "hparams": {"learning_rate": 3e-3, "learning_rate_anneal": 0.0},
    },
    "dqn": {
        "config": {"hidden_sizes": (64,), "learning_starts": 50, "batch_size": 64, "gradient_steps": 2},
        "hparams": {"learning_rate": 1e-3},
    },
}


def digits(seeds: int) -> Rows:
    """1,437 digits are classified; for naming the 360 others PPO and DQN are paid, by rewards of which some are flipped."""
    data, (images, labels) = RUNS / "digits-data", digits_bandit.load("train")
    if not data.exists():
        data.mkdir(parents=True)
        scale = 255 / digits_bandit.LEVELS  # so that both see numbers from 0 to 1
        np.savez(data / "train.npz", images=np.round(images * scale).astype(np.uint8), labels=labels)
    options = {"seeds": seeds, "total_steps": 60_000, "eval_every": 3_000, "config": {"hidden_sizes": (64,)}}
    trained("digits-classify", "classify", f"dataset:{data}", callbacks=["stop_early(5)", "keep_best"], **options)
    best = {"init_from": RUNS / "digits-classify" / "best", "init_leaves": ["torso"]}
    sources: dict[str, dict[str, Any]] = {"from scratch": {}, "pre-trained torso": best}
    noisy = {"env_kwargs": {"split": "test"}, "env_params": {"flip": FLIPPED}, "seeds": seeds, "preset": "none"}
    rows = []
    for agent, budget, name in itertools.product(ON_DIGITS, BUDGETS, sources):
        result = jaxrl.train(agent, "DigitsBandit", total_steps=budget, **noisy, **ON_DIGITS[agent], **sources[name])
        right = (np.asarray(result.final_return) - FLIPPED) / (1 - 2 * FLIPPED)
        rows.append(row_of("digits", f"{agent}, {name}", right, steps=budget))

    def draw(axes: Any) -> None:
        for name in dict.fromkeys(row["name"] for row in rows):
            interval(axes, BUDGETS, [row for row in rows if row["name"] == name], name)
        axes.set(xscale="log", xlabel="steps of reinforcement learning", ylabel="share of digits named right", ylim=(0, 1))
        axes.legend()

    drawn("digits", "Digits never seen before, named for noisy rewards", draw)
    return rows


TEACHER_EPISODES, REACHED = 20, 30.0  # games that are cloned; the return that is to be reached


def curve_of(result: Any) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the evaluations in training, and their returns [seeds, evaluations]."""
    returns = np.asarray(result.metrics["eval_return"])
    there = ~np.isnan(returns).all(0)
    return np.asarray(result.metrics["env_steps"])[0, there], returns[:, there]


def steps_to(result: Any, value: float) -> float:
    """Steps after which the mean over seeds of evaluations first reaches a return; infinity where it does not."""
    steps, returns = curve_of(result)
    reached = steps[returns.mean(0) >= value]
    return float(reached[0]) if len(reached) else float("inf")


def breakout(seeds: int) -> Rows:
    """PPO from scratch is the teacher too: 20 games of its first seed are cloned, and PPO goes on with the clone."""
    env, steps, every = "Breakout-MinAtar", 2_000_000, 100_000
    scratch = trained("breakout-scratch", "ppo", env, seeds=seeds, total_steps=steps, eval_every=every)
    data = RUNS / "breakout-games"
    if not data.exists():
        jaxrl.record(RUNS / "breakout-scratch", out=data, episodes=TEACHER_EPISODES)
    network = {"hidden_sizes": (128,), "activation": "relu", "torso": "minatar"}
    options: dict[str, Any] = {"seeds": seeds, "total_steps": 300_000, "eval_every": 15_000, "config": network}
    trained("breakout-clone", "clone", f"dataset:{data}", callbacks=["stop_early(5)", "keep_best"], **options)
    config = {"freeze": ("actor",), "normalize_rewards": True}
    hparams = {"unfreeze_at": 0.1, "kl_to_init": 0.1, "kl_to_init_anneal": 1.0, "learning_rate": 3e-3}
    tuned = trained(
        "breakout-tuned", "ppo", env, seeds=seeds, total_steps=steps // 2, eval_every=every // 2, config=config,
        hparams=hparams, init_from=RUNS / "breakout-clone" / "best",
    )  # fmt: skip
    trainer, states = jaxrl.load(RUNS / "breakout-tuned")
    clone = np.array([at_start(trainer, seed) for seed in range(seeds)])
    rows = [row_of("breakout", "clone of 20 games", clone, steps=0)]
    for name, result in (("ppo from scratch", scratch), ("ppo from the clone, held to it", tuned)):
        least = float(curve_of(result)[1].mean(0).min())
        more = {"steps": int(curve_of(result)[0][-1]), "steps_to_30": steps_to(result, REACHED), "least_evaluation": least}
        rows.append(row_of("breakout", name, result.final_return, **more))

    def draw(axes: Any) -> None:
        for name, result in (("from scratch", scratch), ("from the clone, held to it by KL", tuned)):
            x, returns = curve_of(result)
            low, high = np.array([stats.seed_interval(r) for r in returns.T]).T
            axes.plot(x, returns.mean(0), label=name)
            axes.fill_between(x, low, high, alpha=0.2)
        axes.axhline(clone.mean(), color="grey", linestyle="--", label="the clone")
        axes.set(xlabel="steps of reinforcement learning", ylabel="greedy return")
        axes.legend()

    drawn("breakout", "Breakout-MinAtar by PPO", draw)
    return rows


def at_start(trainer: Any, seed: int) -> float:
    """The greedy return before the first step, of the seed as the run began."""
    from jaxrl.runs import directory, weights

    wave = directory.read_wave(RUNS / "breakout-tuned")
    loaded = weights.loaded(wave.experiment, trainer, np.array([seed]))
    params = jax.tree.map(lambda x: x[0], loaded)
    state = trainer.init(jax.random.key(seed), params=params)
    return float(jaxrl.evaluate(trainer, state, jax.random.key(seed + 1000), episodes=64).returns.mean())


SMALL, LARGE, MAZE_STEPS = 7, 11, 1_000_000


def mazes(seeds: int) -> Rows:
    """PPO with a memory, first in small mazes; then in large ones, from there and from scratch."""
    options: dict[str, Any] = {"seeds": seeds, "eval_every": 50_000}
    trained("mazes-small", "ppo", "MazeNavigation", env_kwargs={"size": SMALL}, total_steps=MAZE_STEPS, **options)
    rows = []
    for budget in (MAZE_STEPS // 4, MAZE_STEPS // 2, MAZE_STEPS):
        for name, source in (("from scratch", {}), ("from 7 × 7", {"init_from": RUNS / "mazes-small"})):
            label = f"mazes-large-{budget}-{'transfer' if source else 'scratch'}"
            more = {"env_kwargs": {"size": LARGE}, "total_steps": budget, **options, **source}
            result = trained(label, "ppo", "MazeNavigation", **more)
            rows.append(row_of("mazes", name, result.final_return, steps=budget))

    def draw(axes: Any) -> None:
        for name in dict.fromkeys(row["name"] for row in rows):
            theirs = [row for row in rows if row["name"] == name]
            interval(axes, [row["steps"] for row in theirs], theirs, name)
        axes.set(xlabel="steps in mazes of 11 × 11", ylabel="return in mazes never seen")
        axes.legend()

    drawn("mazes", "From mazes of 7 × 7 to 11 × 11, PPO with a memory", draw)
    return rows


LEVELS = (20, 200, 2_000)
HYGIENE: dict[str, dict[str, Any]] = {
    "none": {},
    "weight decay": {"config": {"optimizer": "adamw"}, "hparams": {"weight_decay": 0.1}},
    "dropout": {"config": {"dropout": 0.1}},
}


def levels(seeds: int) -> Rows:
    """One program for each kind of hygiene: how many mazes there are to train in is a traced parameter."""
    rows = []
    for name, options in HYGIENE.items():
        more = {
            "env_kwargs": {"size": SMALL},
            "total_steps": MAZE_STEPS,
            "seeds": seeds,
            "grid": {"env.num_levels": list(LEVELS)},
        }
        result = trained(f"levels-{name.replace(' ', '-')}", "ppo", "MazeNavigation", **more, **options)
        for i, count in enumerate(LEVELS):
            seen, unseen = (np.asarray(result.splits[split])[i] for split in ("train", "test"))
            more = {"levels": count, "train": float(seen.mean()), "test": float(unseen.mean()), "steps": MAZE_STEPS}
            rows.append(row_of("levels", name, seen - unseen, **more))

    def draw(axes: Any) -> None:
        for name in HYGIENE:
            interval(axes, LEVELS, [row for row in rows if row["name"] == name], name)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xscale="log", xlabel="mazes to train in", ylabel="return there less that in mazes never seen")
        axes.legend()

    drawn("levels", "The generalisation gap, MazeNavigation 7 × 7", draw)
    return rows


class Pixels:
    """84 × 84 × 4 random pixels, for timing."""

    @staticmethod
    def make() -> Env:
        def reset(key: Any, params: Any) -> tuple[Any, Any]:
            return jnp.int32(0), jax.random.bits(key, (84, 84, 4), jnp.uint8)

        def step(key: Any, state: Any, action: Any, params: Any) -> tuple[Any, EnvStep]:
            reward = (action == 0).astype(jnp.float32)
            return state + 1, EnvStep(jax.random.bits(key, (84, 84, 4), jnp.uint8), reward, state > 50, jnp.bool_(False))

        return Env(EnvSpec("Pixels", Box((84, 84, 4), 0, 255, jnp.uint8), Discrete(4)), (), reset, step)


FROZEN: dict[str, dict[str, Any]] = {
    "ppo": {"num_envs": 8, "rollout_length": 32, "num_epochs": 4, "num_minibatches": 4, "shared_torso": True},
    "dqn": {"num_envs": 8, "replay_capacity": 2_000, "batch_size": 32, "learning_starts": 0, "gradient_steps": 8},
}


def frozen(seeds: int, rounds: int = 5) -> Rows:
    """Seconds of `learn` on one rollout with a network for Atari, all of it or its dense layer and heads alone."""
    rows = []
    for agent, config in FROZEN.items():
        programs = {}
        for name, patterns in (("all", ()), ("torso frozen", ("torso",))):
            options = config | {"torso": "nature", "hidden_sizes": (512,), "freeze": patterns, "updates_per_iteration": 1}
            trainer = jaxrl.make_trainer(agent, Pixels.make(), total_steps=100_000, config=options, preset="none")
            state = jax.jit(trainer.init)(jax.random.key(0))
            program = jax.jit(trainer.step)
            programs[name] = (program, jax.block_until_ready(program(state))[0])
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(rounds):
            for name, (program, state) in programs.items():
                begin = time.perf_counter()
                jax.block_until_ready(program(state))
                seconds[name].append(time.perf_counter() - begin)
        whole, part = (float(np.median(x)) for x in seconds.values())
        row = {"part": "frozen", "name": agent, "rounds": rounds, "seconds": whole, "seconds_frozen": part,
               "ratio": float(np.median(np.array(seconds["torso frozen"]) / np.array(seconds["all"])))}  # fmt: skip
        result_files.show(row)
        rows.append(row | result_files.stamp())
    return rows


EXPERIMENTS: dict[str, Callable[[int], Rows]] = {
    "digits": digits, "breakout": breakout, "mazes": mazes, "levels": levels, "frozen": frozen,
}  # fmt: skip


def main() -> None:
    """Run the experiments named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in EXPERIMENTS]:
        parser.error(f"no experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")
    for name in options.names or EXPERIMENTS:
        rows = EXPERIMENTS[name](options.seeds)
        if options.seeds >= 8:
            result_files.keep("transfer", rows, list(EXPERIMENTS))


if __name__ == "__main__":
    main()
