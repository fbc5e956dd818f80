"""The figures of docs/benchmarks.md and README.md out of the result files: `python -m benchmarks report`.

Words stay; what was not measured stays too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import result_files
from benchmarks.harness.result_files import Row
from benchmarks.harness.timing import median
from jaxrl.core.errors import InputError
from jaxrl.core.numbers import counted

ROOT = Path(__file__).parents[2]
README, BENCHMARKS = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"


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
AGENTS: tuple[list[Figure], ...] = (  # the rows of the table of agents, in order; [] has its figures from elsewhere
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
    *([returns(f"{agent} dataset:digits", 3)] for agent in ("classify", "clone", "reconstruct")),
)
RESULTS: tuple[list[Figure], ...] = (  # the rows of README's short table
    [returns("ppo CartPole")],
    [returns("ppo Breakout")],
    [returns("ppo MazeNavigation, GRU", 2)],
    [returns("dqn CartPole-v1")],
    [returns("sac Pendulum")],
    [returns("td3 Pendulum")],
    [error("q_learning FrozenLake-misc, slippery")],
)
FILES = (
    "learning",
    "throughput",
    "compile_time",
    "threshold",
    "phases",
    "overhead",
    "sweeps",
    "machines",
    "report_time",
    "memory",
    "scaling",
)
MEMORY = "DQN with a replay of 200k, 1 to 64 members"


def filled_rows(lines: list[str], rows: tuple[list[Figure], ...], column: int, learning: list[Row], page: str) -> list[str]:
    """The rows of a table with their figures filled in. column: of the figures, from 0 on."""
    if len(lines) != len(rows):
        raise InputError(f"{page} has {len(lines)} rows where there are figures for {len(rows)}")
    filled = []
    for line, figures in zip(lines, rows, strict=True):
        cells = line.split("|")  # the first is what stands before the table
        for figure in figures:
            cells[column + 1] = with_figure(cells[column + 1], figure, learning)
        filled.append("|".join(cells))
    return filled


def with_figure(cell: str, figure: Figure, learning: list[Row]) -> str:
    """The cell with one figure replaced. Raises ValueError where it has no place for it."""
    found = [row for row in learning if row["name"].startswith(figure.name)]
    if not found:
        return cell
    text, count = re.subn(figure.pattern, figure.text(found[0]), cell.rstrip())
    if count != 1:
        raise InputError(f"a table has {count} places for {figure.name!r} in {cell!r}")
    return text + " "


def speed_table(rows: list[Row]) -> list[str]:
    """Steps/s beside the peers, and how many times theirs."""

    def cell(row: Row, peer: str) -> str:
        if peer in row["steps_per_s"]:
            ratio = row["ratio"][peer]
            return f"{row['steps_per_s'][peer]:,} ({ratio:.{1 if ratio < 10 else 0}f}×)"
        return row["missing"].get(peer, "")

    return [
        " | ".join(
            [
                f"| {row['work']}",
                str(row["seeds"]),
                f"{row['steps_per_s']['jaxrl']:,}",
                *(cell(row, peer) for peer in ("rejax", "sb3", "sbx")),
            ]
        )
        + " |"
        for row in rows
        if row["part"] != "atari"  # whose peer is another, see `facts`
    ]


def part(rows: list[Row], name: str) -> list[Row]:
    """The rows of one part of a benchmark."""
    return [row for row in rows if row["part"] == name]


def facts(results: Mapping[str, list[Row]]) -> list[str]:
    """What else of speed was measured, beside what steps/s do not say."""
    compiled = part(results["compile_time"], "programs")
    (start,) = part(results["compile_time"], "start")
    (learning,), (page,) = part(results["phases"], "gemm"), results["report_time"]
    shares = {row["part"]: row["share"] for row in results["phases"] if "share" in row}
    (pong,) = part(results["throughput"], "atari")
    threshold, overhead = results["threshold"], [row for row in results["overhead"] if "driver_over_bare" in row]

    def both(rows: list[Row], text: Callable[[Row], str]) -> str:
        return "; ".join(f"{row['work'].split()[0]} {text(row)}" for row in rows)

    def share(name: str) -> str:
        return ", ".join(f"{kind} {x:.0%}" for kind, x in shares[name].items()).replace("%", " %")

    def reached(row: Row) -> str:
        return f"{row['median_s']:.1f} s ({row['passed']})" if row["median_s"] else "not reached"

    found = {
        "PPO on ale:Pong from pixels, the preset's network and settings, steps/s": (
            "{configured} with `jaxrl.configure()`, {jaxrl} without; PyTorch, as CleanRL writes it, {torch}".format(
                **pong["steps_per_s"]
            )
        ),
        "trace and compile, CartPole-v1, nothing cached": both(compiled, lambda row: f"{row['median_s']['total']:.1f} s"),
        "process start to the first progress of `make train`, compile cache warm (empty)": (
            f"{start['median_s']:.1f} s ({start['first_run_s']:.1f} s)"
        ),
        "process start to a greedy return of 475 on CartPole-v1, one seed, cache warm": both(threshold, reached),
        "PPO's learning over its bare products and tanh": f"{learning['ratio']:.2f}",
        "driver (chunks, progress, files) over one bare `jit(train)`": both(
            overhead, lambda row: f"{row['driver_over_bare']:.2f}"
        ),
        "ten evaluations of 32 episodes, share of the run": both(
            overhead, lambda row: f"{100 * row['evaluation_share']:.1f} %"
        ),
        **{f"{name} over the directory's files alone, PPO": cost for name, cost in sinks(results["overhead"]).items()},
        f"report of {page['work']}": (
            f"written in {page['write_s']:.1f} s, {page['megabytes']:.1f} MB, opened in {page['open_s']:.1f} s"
        ),
        "where an iteration of PPO on CartPole-v1 goes": share("ppo"),
        "of PPO on Breakout-MinAtar, 64 × 128 steps": share("breakout"),
        "of DQN on CartPole-v1": share("dqn"),
    }
    return [f"| {what} | {value} |" for what, value in found.items()]


def sinks(rows: list[Row]) -> dict[str, str]:
    """How long a run takes with a sink, as a multiple of one without, and how long its end is waited for."""

    def text(row: Row) -> str:
        seconds, sink = row["median_s"], row["part"]
        ends = [seconds[f"{way}, whole"] - seconds[way] for way in ("files alone", sink)]
        seeds = counted(row["seeds"], "seed")
        return f"{row['sink_over_files']:.2f} with {seeds} and {max(ends[1] - ends[0], 0):.1f} s at the end"

    names = {"tensorboard": "TensorBoard", "wandb": "W&B, offline,"}
    return {title: "; ".join(text(row) for row in part(rows, name)) for name, title in names.items()}


def sweeps_table(results: Mapping[str, list[Row]]) -> list[str]:
    """What sweeps and tuning cost and give."""
    (beside,), (tuned,) = part(results["sweeps"], "beside"), part(results["sweeps"], "tuning")
    ratios = [row["ratio"] for row in part(results["memory"], "plan")]
    seconds: dict[str, list[float]] = {}
    for row in part(results["scaling"], "members"):
        seconds.setdefault(row["work"], []).append(row["seconds_per_member"])
    last = "; ".join(f"{s[-1] / s[0]:.2f}" for s in seconds.values())
    best, before = (
        f"{x['mean']:.1f} [{x['interval'][0]:.1f}, {x['interval'][1]:.1f}]" for x in (tuned["best"], tuned["preset"])
    )
    compiled = "; ".join(str(row["compiled"]) for row in part(results["sweeps"], "programs"))
    speed = beside["steps_per_s"]
    speeds = f"{speed['jaxrl']:,} steps/s; rejax, vmapped over the same 32, in the same run: {speed['rejax']:,}"
    work = f"tuning PPO on Acrobot-v1: 64 trials × 3 seeds of 500k steps, {tuned['seconds']} s"
    found = {
        "4 learning rates × 8 seeds of PPO on CartPole-v1, 500k steps each": f"{speeds}; {beside['ratio']['rejax']:.1f}×",
        "programs compiled: a traced grid; a grid with two static values": compiled,
        f"peak bytes, predicted over measured: {MEMORY}": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "time per member of 64, that of one member alone being 1: PPO; DQN": last,
        work: f"best {best}, preset it began from {before}; 16 fresh seeds each",
    }
    (slower,), (kills,) = part(results["machines"], "overhead"), part(results["machines"], "kills")
    found |= {
        f"{kills['work']}, on Ray, one of two workers killed {kills['kills']} times": (
            f"{kills['lost']} members lost, {kills['twice']} trained twice, {kills['other_bits']} with other bits"
        ),
        f"{slower['work']}, on {slower['workers']} workers of Ray over without Ray": (
            f"{slower['ratio']:.2f}, Ray's start of {median(slower['rounds']['ray_start']):.1f} s apart"
        ),
    }
    return [f"| {what} | {value} |" for what, value in found.items()]


Tables = dict[
    str, Callable[[list[str], Mapping[str, list[Row]]], list[str]]
]  # how a table begins -> (rows, results) -> rows
PAGES: dict[Path, Tables] = {
    BENCHMARKS: {
        "| agent | what |": lambda lines, r: filled_rows(lines, AGENTS, 4, r["learning"], BENCHMARKS.name),
        "| work | seeds |": lambda _, r: speed_table(r["throughput"]),
        "| speed | |": lambda _, r: facts(r),
        "| measured | |": lambda _, r: sweeps_table(r),
    },
    README: {
        "| agent | environment |": lambda lines, r: filled_rows(lines, RESULTS, 3, r["learning"], README.name),
        "| work | seeds |": lambda _, r: speed_table(r["throughput"]),
    },
}


def filled(text: str, tables: Tables, results: Mapping[str, list[Row]]) -> str:
    """A page's text with the figures of the results, rows by file name, in its tables."""
    lines = text.split("\n")
    for head, make in tables.items():
        start = next(i for i, line in enumerate(lines) if line.startswith(head)) + 2
        end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
        lines[start:end] = make(lines[start:end], results)
    return "\n".join(lines)


def read() -> dict[str, list[Row]]:
    """The rows of every result file that the pages tell of."""
    return {name: result_files.read(result_files.RESULTS / f"{name}.json") for name in FILES}


def write() -> None:
    """Write the pages anew."""
    results = read()
    for page, tables in PAGES.items():
        page.write_text(filled(page.read_text(), tables, results))
