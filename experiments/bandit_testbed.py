"""The 10-armed testbed of Sutton & Barto (2nd ed., chapter 2), and how regret grows.

`python experiments/bandit_testbed.py [--out DIR] [--problems N]` draws figures 2.2-2.5 (2,000 problems × 1,000 steps) and a
picture of regret, and prints key points beside the book's. With all 2,000 problems it also keeps them in benchmarks/results.

A curve is one program, vmapped over problems: p alone decides the arms of problem p, and every curve sees the same ones.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script: benchmarks/ is not installed

from jaxrl.devices import platform

if __name__ == "__main__":
    platform.configure()

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks.harness import result_files
from jaxrl.devices.layout import Layout

PROBLEMS, STEPS, REGRET_STEPS, REGRET_RUNS = 2000, 1000, 20_000, 100
METRICS = ("reward", "optimal", "cumulative_regret")
ROW = 10  # steps averaged into one point of a regret curve
FIT_FROM = 200  # step from which a regret curve is fitted
GAP = 0.3  # arms pay with probability 0.35, the best one with 0.65


class Curve(NamedTuple):
    """One method on the testbed. base: mean level of the arms."""

    label: str
    agent: str
    hparams: dict[str, float]
    config: dict[str, Any] = {}
    base: float = 0.0


class Result(NamedTuple):
    """Means over problems at each step: reward float64 [T], and share of problems whose best arm was pulled [T]."""

    reward: np.ndarray
    optimal: np.ndarray


class Figure(NamedTuple):
    """A figure of the book. panels: what is drawn, fields of Result."""

    title: str
    panels: tuple[str, ...]
    curves: tuple[Curve, ...]


def epsilon_greedy(label: str, epsilon: float, **hparams: float) -> Curve:
    return Curve(label, "epsilon_greedy", {"epsilon_start": epsilon, "epsilon_end": epsilon, **hparams})


def gradient(label: str, learning_rate: float, baseline: bool) -> Curve:
    return Curve(label, "gradient_bandit", {"learning_rate": learning_rate}, {"baseline": baseline}, base=4.0)


CONSTANT = {"learning_rate": 0.1, "learning_rate_decay": 0.0}
FIGURES = {
    "2_2": Figure(
        "Figure 2.2: ε-greedy, sample averages",
        ("reward", "optimal"),
        (epsilon_greedy("ε = 0.1", 0.1), epsilon_greedy("ε = 0.01", 0.01), epsilon_greedy("ε = 0 (greedy)", 0.0)),
    ),
    "2_3": Figure(
        "Figure 2.3: optimistic initial values, α = 0.1",
        ("optimal",),
        (
            epsilon_greedy("optimistic, Q₁ = 5, ε = 0", 0.0, initial_value=5.0, **CONSTANT),
            epsilon_greedy("realistic, Q₁ = 0, ε = 0.1", 0.1, **CONSTANT),
        ),
    ),
    "2_4": Figure(
        "Figure 2.4: upper confidence bounds",
        ("reward",),
        (Curve("UCB, c = 2", "ucb", {"confidence": 2.0}), epsilon_greedy("ε-greedy, ε = 0.1", 0.1)),
    ),
    "2_5": Figure(
        "Figure 2.5: gradient bandits, arms around +4",
        ("optimal",),
        (
            gradient("α = 0.1, baseline", 0.1, True),
            gradient("α = 0.4, baseline", 0.4, True),
            gradient("α = 0.1, none", 0.1, False),
            gradient("α = 0.4, none", 0.4, False),
        ),
    ),
}
REGRET_CURVES = (
    Curve("ε-greedy, ε = 0.1", "epsilon_greedy", {"epsilon_start": 0.1, "epsilon_end": 0.1}),
    Curve("UCB1, c = √2", "ucb", {"confidence": 2**0.5}),
    Curve("Thompson, Beta(1, 1)", "thompson", {}, {"likelihood": "bernoulli"}),
)


@functools.cache
def program(agent: str, config: tuple, env: str, steps: int, row: int, problems: int) -> tuple[Any, Layout, Callable]:
    """The trainer, how problems lie over devices, and the compiled-once run of one agent: hyper-parameters are traced."""
    trainer = jaxrl.make_trainer(
        agent,
        env,
        total_steps=steps,
        config={"num_envs": 1, "updates_per_iteration": row, **dict(config)},
        env_params={"max_steps_in_episode": steps + row},
        preset="none",
    )
    layout = Layout.over_all_devices(problems)

    def run(problem: jax.Array, hparams: Any, env_params: Any) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.key(1), problem)
        rows = trainer.train(key, hparams, env_params._replace(problem=problem))[1]
        return {name: rows[name] for name in METRICS}

    # Compiling takes longer than running; at level 1 it takes half as long, and what comes out runs as fast.
    return trainer, layout, jax.jit(layout.map(run), compiler_options={"xla_backend_optimization_level": 1})


def means(curve: Curve, env: str, problems: int, steps: int, row: int = 1, **env_params: float) -> tuple[np.ndarray, ...]:
    """Reward, share of optimal pulls and cumulative regret, means over problems and `row` steps: float64 [steps / row]."""
    trainer, layout, run = program(curve.agent, tuple(curve.config.items()), env, steps, row, problems)
    hparams = jax.tree.map(jnp.float32, type(trainer.hparams)(**vars(trainer.hparams) | curve.hparams))
    params = trainer.env_params._replace(base=jnp.float32(curve.base), **{k: jnp.float32(v) for k, v in env_params.items()})
    found = layout.unpad(jax.device_get(run(layout.pad(jnp.arange(problems, dtype=jnp.int32)), hparams, params)))
    return tuple(found[name].mean(0, dtype=np.float64) for name in METRICS)


def testbed(curve: Curve, problems: int = PROBLEMS, steps: int = STEPS) -> Result:
    """A method's curve on the 10-armed testbed."""
    return Result(*means(curve, "GaussianBandit", problems, steps)[:2])


def regret(curve: Curve, runs: int = REGRET_RUNS, steps: int = REGRET_STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and mean cumulative regret [steps / ROW] where all arms are alike but one, which is better by GAP."""
    total = means(curve._replace(base=0.5 - GAP / 2), "BernoulliBandit", runs, steps, ROW, spread=0.0, gap=GAP)[2]
    return np.arange(steps // ROW) * ROW + (ROW + 1) / 2, total


def fits(t: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """R² of least squares y ≈ a + b ln t and y ≈ a + b t, from FIT_FROM on."""
    t, y = t[t >= FIT_FROM], y[t >= FIT_FROM]

    def r_squared(x: np.ndarray) -> float:
        return float(np.corrcoef(x, y)[0, 1] ** 2)

    return r_squared(np.log(t)), r_squared(t)


def key_points(results: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """What was measured over the last 20 steps, or at a step, beside what the book says.

    Its text gives few numbers; of a figure only what shows without measuring it: an order, or a round value.
    """
    (often, seldom, greedy), (optimistic, realistic), (ucb, _), gradients = results.values()
    slow, fast, slow_without, fast_without = (100 * last(r.optimal) for r in gradients)
    rows = [
        ("2.2 reward, ε = 0 (greedy)", last(greedy.reward), "text: only about 1"),
        ("2.2 reward, ε = 0.01", last(seldom.reward), "figure: between"),
        ("2.2 reward, ε = 0.1", last(often.reward), "figure: about 1.4, highest"),
        ("2.2 % optimal, ε = 0 (greedy)", 100 * last(greedy.optimal), "text: in about a third of the tasks"),
        ("2.2 % optimal, ε = 0.01", 100 * last(seldom.optimal), "text: slower, but in the end better than ε = 0.1"),
        ("2.2 % optimal, ε = 0.1", 100 * last(often.optimal), "figure: about 80; text: never over 91"),
        ("2.3 % optimal, optimistic", 100 * last(optimistic.optimal), "text: worse at first, in the end better"),
        ("2.3 % optimal, realistic", 100 * last(realistic.optimal), "figure: below"),
        ("2.3 % optimal, optimistic, step 11", 100 * optimistic.optimal[10], "exercise 2.6: a spike early on"),
        ("2.3 % optimal, optimistic, step 12", 100 * optimistic.optimal[11], "far below"),
        ("2.4 reward, UCB", last(ucb.reward), "text: better than ε-greedy but for the first k steps"),
        ("2.4 reward, UCB, step 11", ucb.reward[10], "exercise 2.8: a sharp spike on the 11th step"),
        ("2.4 reward, UCB, step 12", ucb.reward[11], "exercise 2.8: lower again"),
        ("2.5 % optimal, α = 0.1, baseline", slow, "figure: highest"),
        ("2.5 % optimal, α = 0.4, baseline", fast, "figure: second"),
        ("2.5 % optimal, α = 0.1, none", slow_without, "text: significantly worse than with; figure: third"),
        ("2.5 % optimal, α = 0.4, none", fast_without, "figure: lowest"),
    ]
    return [{"name": name, "measured": float(x), "book": book} for name, x, book in rows]


def last(values: np.ndarray) -> float:
    """The mean of the last 20 steps."""
    return float(values[-20:].mean())


LABELS = {"reward": "average reward", "optimal": "optimal action"}


def draw(figure: Figure, results: list[Result], file: Path) -> None:
    """One figure of the book as a PNG, each curve named at its end."""
    plt = pyplot()
    fig, axes = plt.subplots(
        1, len(figure.panels), figsize=(1.2 + 5.4 * len(figure.panels), 3.9), layout="constrained", squeeze=False
    )
    for ax, panel in zip(axes[0], figure.panels, strict=True):
        for curve, result in zip(figure.curves, results, strict=True):
            y = getattr(result, panel)
            ax.plot(np.arange(1, len(y) + 1), y, linewidth=1.1, label=curve.label)
        ax.set(xlabel="steps", ylabel=LABELS[panel], xlim=(-0.01 * len(y), len(y)))
        if panel == "optimal":
            ax.set_ylim(0, 1)
            ax.yaxis.set_major_formatter("{x:.0%}")
        finish(ax)
    fig.suptitle(figure.title)
    fig.savefig(file, dpi=100)
    plt.close(fig)


def draw_regret(curves: dict[str, tuple[np.ndarray, np.ndarray]], file: Path) -> None:
    """Regret over time on linear and on logarithmic steps, where a logarithm is a straight line."""
    plt = pyplot()
    fig, axes = plt.subplots(1, 2, figsize=(12, 3.9), layout="constrained")
    for ax, scale in zip(axes, ("linear", "log"), strict=True):
        for label, (t, y) in curves.items():
            ax.plot(t, y, linewidth=1.6, label=label)
        ax.set(xscale=scale, xlabel=f"steps ({scale})", ylabel="cumulative regret", ylim=(0, None))
        ax.set_xlim(0 if scale == "linear" else ROW, t[-1])
        finish(ax)
    fig.suptitle(f"Regret: ten Bernoulli arms, nine pay {0.5 - GAP / 2:.2f}, one pays {0.5 + GAP / 2:.2f}")
    fig.savefig(file, dpi=100)
    plt.close(fig)


def pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def finish(ax: Any) -> None:
    """A light grid, no box, and each curve's name at its end, moved apart where two would overlap."""
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    low, high = ax.get_ylim()
    ends = sorted((np.mean(line.get_ydata()[-20:]), line) for line in ax.get_lines())
    at = low - high
    for end, line in ends:
        at = max(end, at + 0.06 * (high - low))
        ax.annotate(
            line.get_label(), (1.01, at), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=line.get_color()
        )


def main(out: Path, problems: int) -> None:
    """Run everything, draw it into `out`, and print the key points."""
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    results = {name: [testbed(curve, problems) for curve in figure.curves] for name, figure in FIGURES.items()}
    seconds = time.perf_counter() - start
    runs = min(REGRET_RUNS, problems)
    regrets = {curve.label: regret(curve, runs) for curve in REGRET_CURVES}
    whole = time.perf_counter() - start
    rows = key_points(results)
    for label, (t, y) in regrets.items():
        logarithm, line = fits(t, y)
        rows.append({"name": f"regret, {label}", "measured": float(y[-1]), "r2_logarithm": logarithm, "r2_line": line})
    for name, figure in FIGURES.items():
        draw(figure, results[name], out / f"{name}.png")
    draw_regret(regrets, out / "regret.png")
    for row in rows:
        result_files.show(row)
    print(f"{problems} problems: figures {seconds:.1f} s, with regret {whole:.1f} s; pictures in {out}")
    if problems == PROBLEMS:
        rows.append(
            {
                "name": "seconds, programs compiled or out of the cache",
                "figures": round(seconds, 1),
                "with_regret": round(whole, 1),
            }
        )
        result_files.save("bandit_testbed", rows)
        for name in (*FIGURES, "regret"):
            shutil.copyfile(out / f"{name}.png", result_files.RESULTS / f"bandit_{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/bandit_testbed"), help="folder of the pictures")
    parser.add_argument("--problems", type=int, default=PROBLEMS, help="problems averaged over")
    given = parser.parse_args()
    main(given.out, given.problems)
