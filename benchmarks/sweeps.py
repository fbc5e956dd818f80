"""Sweeps and tuning, measured: `python -m benchmarks.sweeps [beside|programs|memory|members|tuning]...`; all without a word.

beside:   4 learning rates × 8 seeds of PPO on CartPole-v1 beside rejax's `vmap` over the same 32, in turn, in one run.
programs: training programs compiled for grids.
memory:   bytes that a plan predicts beside the growth of the process's peak (Linux: VmHWM), DQN with replay.
members:  seconds per member as members grow from 1 to 64.
tuning:   the best of 64 trials of PPO on Acrobot-v1 beside the preset, at equal steps, on fresh seeds.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import record, speed
from jaxrl import platform

RATES, SEEDS, STEPS = (1e-4, 3e-4, 1e-3, 3e-3), 8, 500_000
MEMBERS = (1, 2, 4, 8, 16, 32, 64)
ROUNDS, REPEATS = 2, 3


def beside() -> list[dict[str, Any]]:
    """Total steps/s of ours and of rejax, in turn; the best of each counts."""
    speed.install_peer()
    peer = Path("benchmarks") / "peers" / "rejax_peer.py"
    rates = ",".join(map(str, RATES))
    commands = {
        "jaxrl": [sys.executable, "-m", "benchmarks.sweeps", "ours"],
        "rejax": [str(speed.PEER), "-W", "ignore", str(peer), "ppo", str(STEPS), str(SEEDS), rates],
    }
    rounds = [{name: speed.in_process(words) for name, words in commands.items()} for _ in range(ROUNDS)]
    speeds = {name: [round(x["steps_per_s"]) for x in (r[name] for r in rounds) if x] for name in commands}
    best = {name: max(found) if found else None for name, found in speeds.items()}
    ratio = best["jaxrl"] / best["rejax"] if best["jaxrl"] and best["rejax"] else None
    work = f"PPO CartPole-v1, {len(RATES)} learning rates × {SEEDS} seeds, {STEPS:,} steps each"
    return [{"work": work, **best, "rounds": speeds, "ratio": ratio, "must": ">= 2.2"}]


def ours() -> dict[str, float]:
    """The same sweep in this process, compilation apart; the plan's program runs twice."""
    platform.configure()
    import jax

    import jaxrl

    jax.config.update("jax_enable_compilation_cache", False)
    words: dict[str, Any] = {"grid": {"learning_rate": RATES}, "seeds": SEEDS, "total_steps": STEPS, "preset": "CartPole-v1"}
    result = jaxrl.sweep("ppo", "CartPole-v1", **words)
    return {
        "compile_s": result.compile_s,
        "run_s": result.run_s,
        "steps_per_s": result.plan.env_steps / result.run_s,
    }


def programs() -> list[dict[str, Any]]:
    """Programs that XLA compiled for the training of a traced grid, and of one with two static values."""
    import jaxrl
    from jaxrl import programs as compiled

    rows = []
    for grid, must in (({"learning_rate": RATES, "gamma": [0.98, 0.99]}, 1), ({"hidden_sizes": [(32,), (64, 64)]}, 2)):
        made: list[Any] = []
        make = compiled.make_chunk
        compiled.make_chunk = lambda trainer, make=make, made=made: made.append(trainer) or make(trainer)  # type: ignore
        result = jaxrl.sweep("ppo", "CartPole-v1", grid=grid, seeds=2, total_steps=5000)
        compiled.make_chunk = make
        rows.append(
            {"work": f"grid over {', '.join(grid)}", "planned": result.plan.programs, "compiled": len(made), "must": must}
        )
    return rows


def memory() -> list[dict[str, Any]]:
    """Each count of members in a process of its own."""
    rows: list[dict[str, Any]] = []
    for members in MEMBERS:
        row = speed.in_process([sys.executable, "-m", "benchmarks.sweeps", "bytes", str(members)])
        assert row is not None
        work = "DQN Breakout-MinAtar, replay of 200,000"
        rows.append({"work": work, **row, "ratio": row["predicted"] / row["measured"], "must": "0.8 to 1.2"})
    return rows


def bytes_of(members: int) -> dict[str, float]:
    """Predicted and measured bytes of a sweep of so many seeds. Compiled twice: compiling has a peak of its own."""
    platform.configure()
    import jax
    import numpy as np
    import psutil

    from jaxrl import planning
    from jaxrl.experiment import resolve

    base = resolve(
        "dqn",
        "Breakout-MinAtar",
        total_steps=200_000,
        preset="none",
        config={"replay_capacity": 200_000, "torso": "minatar"},
    )
    (group,) = planning.make(base, [{}], members, 0).groups
    run = group.waves(0)[0]
    arguments = run.arguments(group.programs.trainer)
    jax.block_until_ready(group.programs.chunk(group.programs.start(arguments), np.int32(1)))
    gc.collect()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    jax.block_until_ready(group.programs.chunk(group.programs.start(arguments), np.int32(1)))
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    return {"members": members, "predicted": group.bytes, "measured": int(status) * 1024 - before}


def members() -> list[dict[str, Any]]:
    """Seconds that a member costs, the best of three runs of the compiled program, one process."""
    platform.configure()
    import jax
    import numpy as np

    from jaxrl import planning
    from jaxrl.experiment import resolve

    rows = []
    for agent, steps in (("ppo", 30_000), ("dqn", 60_000)):
        base = resolve(agent, "CartPole-v1", total_steps=steps, config={"hidden_sizes": (64, 64)})
        for count in MEMBERS:
            (group,) = planning.make(base, [{}], count, 0).groups
            run, trainer, times = group.waves(0)[0], group.programs.trainer, []
            for _ in range(REPEATS):
                state = group.programs.start(run.arguments(trainer))
                begin = time.perf_counter()
                jax.block_until_ready(group.programs.chunk(state, np.int32(trainer.num_iterations)))
                times.append(time.perf_counter() - begin)
            per_member = min(times) / count
            work = f"{agent.upper()} CartPole-v1, {trainer.total_steps:,} steps"
            rows.append({"work": work, "members": count, "seconds_per_member": round(per_member, 4)})
            record.show(rows[-1:])
    draw_members(rows, record.RESULTS / "members.png")
    return rows


def draw_members(rows: list[dict[str, Any]], out: Path) -> None:
    """The curves of `members` into a PNG: seconds per member, as a share of one member's."""
    from jaxrl import plot

    fig, ax = plot.pyplot().subplots(figsize=(5.4, 3.4), layout="constrained")
    for work in dict.fromkeys(row["work"] for row in rows):
        found = [row for row in rows if row["work"] == work]
        seconds = [row["seconds_per_member"] for row in found]
        ax.plot([row["members"] for row in found], [s / seconds[0] for s in seconds], "o-", ms=4, label=work)
    ax.set(xscale="log", ylim=(0, None), xlabel="members of a sweep", ylabel="time per member (1 = alone)")
    ax.set_xticks(MEMBERS, [str(count) for count in MEMBERS])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    plot.save(fig, out)


def tuning() -> list[dict[str, Any]]:
    """64 trials × 3 seeds from seed 1000 on; then the best setting and the preset on 16 fresh seeds."""
    platform.configure()
    import jaxrl
    from jaxrl import stats
    from jaxrl.tuning import TuneResult

    begin = time.perf_counter()
    found = jaxrl.tune("ppo", "Acrobot-v1", trials=64, parallel=16, seeds=3, confirm=16)
    assert isinstance(found, TuneResult) and found.confirmation is not None
    confirmed = found.confirmation
    best, preset = confirmed.final_return
    steps = confirmed.plan.groups[0].programs.trainer.total_steps
    row = {
        "work": f"PPO Acrobot-v1, {steps:,} steps a run, 64 trials × 3 seeds",
        "best": {"setting": found.best, "mean": float(best.mean()), "interval": list(confirmed.interval(0))},
        "preset": {"mean": float(preset.mean()), "interval": list(confirmed.interval(1))},
        "per_seed": {"best": best.tolist(), "preset": preset.tolist()},
        "probability_of_improvement": stats.probability_of_improvement(best, preset),
        "improvement_interval": list(stats.improvement_interval(best, preset)),
        "trials": found.trials,
        "seconds": round(time.perf_counter() - begin),
        "must": "better than the preset",
    }
    return [row]


PARTS = {"beside": beside, "programs": programs, "memory": memory, "members": members, "tuning": tuning}


def main(parts: list[str]) -> None:
    """Measure some parts and keep benchmarks/results/sweeps.json; other parts' rows stay."""
    file = record.RESULTS / "sweeps.json"
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    for part in parts or PARTS:
        if part not in PARTS:
            sys.exit(f"unknown part {part!r}; valid: {', '.join(PARTS)}")
        rows = [{"part": part, **row, "measured_at": record.stamp()} for row in PARTS[part]()]
        kept = [row for row in kept if row["part"] != part] + rows
        record.show([{k: v for k, v in row.items() if k not in ("trials", "per_seed", "measured_at")} for row in rows])
        record.save("sweeps", kept)


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        print(json.dumps(ours()))
    elif sys.argv[1:2] == ["bytes"]:
        print(json.dumps(bytes_of(int(sys.argv[2]))))
    else:
        main(sys.argv[1:])
