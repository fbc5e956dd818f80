"""README's figures out of the result files: `python -m benchmarks report`. Words stay; what was not measured stays too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import record
from jaxrl.errors import InputError

README = Path(__file__).parent.parent / "README.md"
Row = Mapping[str, Any]


class Figure(NamedTuple):
    """What a cell says of a measurement of learning.json. name: how its name begins. pattern: the text that is replaced."""

    name: str
    pattern: str
    text: Callable[[Row], str]


def returns(name: str, digits: int = 1) -> Figure:
    """Mean return with its interval, and the worst seed's."""

    def text(row: Row) -> str:
        mean, low, high, worst = (f"{x:.{digits}f}" for x in (row["mean"], *row["ci"], min(row["per_seed"])))
        return f"{mean} [{low}, {high}], worst seed {worst}"

    return Figure(name, r"-?[\d.]+ \[[^]]+\], worst seed -?[\d.]+", text)


def error(name: str) -> Figure:
    """The largest error, at the end of the cell."""
    return Figure(name, r"[\d.]+$", lambda row: f"{row['max_abs_error']:.2g}")


def mean(name: str, words: str) -> Figure:
    """A mean behind some words."""
    return Figure(name, rf"{words} -?[\d.]+", lambda row: f"{words} {row['mean']:.1f}")


def cliff(agent: str) -> list[Figure]:
    """Greedy, and with exploration."""
    return [mean(f"{agent} CliffWalking, {words}", words) for words in ("greedy", "in training")]


OPTIONS_OFF = "dqn, Rainbow's settings with its options off,"
AGENTS: tuple[list[Figure], ...] = (  # the rows of README's table, in order; [] has its figures from elsewhere
    [returns("dqn CartPole-v1")],
    [returns("dqn Acrobot-v1")],
    [returns("dqn MountainCar-v0")],
    [returns("dqn Breakout")],
    [returns("rainbow (preset) CartPole")],
    [returns(f"{OPTIONS_OFF} CartPole")],
    [returns("rainbow (preset) Catch", 2)],
    [returns(f"{OPTIONS_OFF} Catch", 2)],
    [returns("dqn DeepSea-bsuite, noisy", 2)],
    [returns("dqn DeepSea-bsuite, ε", 2)],
    [returns("pqn CartPole")],
    [returns("pqn Breakout")],
    [returns("ppo CartPole")],
    [returns("ppo Acrobot")],
    [returns("ppo MountainCarContinuous")],
    [returns("ppo Pendulum")],
    *([returns(f"ppo {game}-MinAtar")] for game in ("Breakout", "Asterix", "Freeway", "SpaceInvaders")),
    *([returns(f"ppo {env}, {net}", 2)] for env in ("MemoryChain-bsuite", "MazeNavigation") for net in ("GRU", "MLP")),
    [returns("ppo GearShift")],
    [returns("a2c CartPole")],
    [returns("reinforce CartPole")],
    [returns("r2d2 MemoryChain", 2)],
    [returns("sac Pendulum")],
    [returns("sac CartPole")],
    [returns("td3 Pendulum")],
    [error("q_learning FrozenLake-misc, slippery")],
    [error("q_learning 20 Garnet")],
    cliff("q_learning"),
    [error("double_q_learning FrozenLake")],
    cliff("sarsa"),
    [error("expected_sarsa 20 Garnet processes, uniform")],
    [mean("n_step_sarsa CliffWalking, greedy", "greedy")],
    *([] for _ in ("epsilon_greedy", "ucb", "thompson", "gradient_bandit")),
    [returns("neural_bandit DigitsBandit", 3)],
)
MEASURED = 5  # the column of the figures, where the first is what stands before the table
MEMORY = "DQN with a replay of 200k, 1 to 64 members"


def agents_table(lines: list[str], learning: list[Row]) -> list[str]:
    """The rows of README's table of agents with their figures filled in."""
    filled = []
    for line, figures in zip(lines, AGENTS, strict=True):
        cells = line.split("|")
        for figure in figures:
            cells[MEASURED] = with_figure(cells[MEASURED], figure, learning)
        filled.append("|".join(cells))
    return filled


def with_figure(cell: str, figure: Figure, learning: list[Row]) -> str:
    """The cell with one figure replaced. Raises ValueError where it has no place for it."""
    found = [row for row in learning if row["name"].startswith(figure.name)]
    if not found:
        return cell
    text, count = re.subn(figure.pattern, figure.text(found[0]), cell.rstrip())
    if count != 1:
        raise InputError(f"README has {count} places for {figure.name!r} in {cell!r}")
    return text + " "


def speed_table(rows: list[Row]) -> list[str]:
    """Steps/s beside rejax."""

    def number(x: float | None) -> str:
        return f"{x:,}" if x else "did not finish"

    return [
        f"| {row['work'].split()[0]} | {row['seeds']} | {number(row['jaxrl'])} | {number(row['rejax'])} "
        f"| {row['ratio']:.1f}× |"
        for row in rows
    ]


def sweeps_table(rows: list[Row]) -> list[str]:
    """What sweeps and tuning cost and give."""
    part = {name: [row for row in rows if row["part"] == name] for name in dict.fromkeys(row["part"] for row in rows)}
    (beside,), (tuned,) = part["beside"], part["tuning"]
    ratios = [row["ratio"] for row in part["memory"]]
    seconds: dict[str, list[float]] = {}
    for row in part["members"]:
        seconds.setdefault(row["work"], []).append(row["seconds_per_member"])
    last = "; ".join(f"{s[-1] / s[0]:.2f}" for s in seconds.values())
    best, before = (
        f"{x['mean']:.1f} [{x['interval'][0]:.1f}, {x['interval'][1]:.1f}]" for x in (tuned["best"], tuned["preset"])
    )
    compiled = "; ".join(str(row["compiled"]) for row in part["programs"])
    speeds = f"{beside['jaxrl']:,} steps/s; rejax, vmapped over the same 32, in the same run: {beside['rejax']:,}"
    work = f"tuning PPO on Acrobot-v1: 64 trials × 3 seeds of 500k steps, {tuned['seconds']} s"
    facts = {
        "4 learning rates × 8 seeds of PPO on CartPole-v1, 500k steps each": f"{speeds}; {beside['ratio']:.1f}×",
        "programs compiled: a traced grid; a grid with two static values": compiled,
        f"peak bytes, predicted over measured: {MEMORY}": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "time per member of 64, that of one member alone being 1: PPO; DQN": last,
        work: f"best {best}, preset it began from {before}; 16 fresh seeds each",
    }
    return [f"| {what} | {found} |" for what, found in facts.items()]


def filled(text: str, results: Mapping[str, list[Row]]) -> str:
    """README's text with the figures of the results, rows by file name."""
    lines = text.split("\n")
    for head, make in (
        ("| agent | what |", lambda rows: agents_table(rows, results["learning"])),
        ("| agent | seeds |", lambda _: speed_table(results["speed"])),
        ("| measured | |", lambda _: sweeps_table(results["sweeps"])),
    ):
        start = next(i for i, line in enumerate(lines) if line.startswith(head)) + 2
        end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
        lines[start:end] = make(lines[start:end])
    return "\n".join(lines)


def read() -> dict[str, list[Row]]:
    """The rows of every result file that README tells of."""
    return {
        name: json.loads((record.RESULTS / f"{name}.json").read_text())["rows"] for name in ("learning", "speed", "sweeps")
    }


def main() -> None:
    """Write README.md anew."""
    README.write_text(filled(README.read_text(), read()))
