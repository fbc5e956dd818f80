"""Charts of what was measured, in benchmarks/results: `python -m benchmarks report`.

Pictures that a run draws come from `python -m benchmarks run pictures`.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import result_files
from benchmarks.harness.result_files import Row
from jaxrl.show import plot


def draw() -> None:
    """scaling.png and learning.png."""
    for chart, name in ((scaling, "scaling"), (curves, "learning")):
        chart(result_files.read(result_files.RESULTS / f"{name}.json"), result_files.RESULTS / f"{name}.png")


def scaling(rows: list[Row], out: Path) -> None:
    """How cost grows with members, environments and devices: three panels."""
    fig, (members, envs, devices) = plot.pyplot().subplots(1, 3, figsize=(11, 3.3), layout="constrained")
    for work, found in _by_work(rows, "members").items():
        alone = found[0]["seconds_per_member"]
        x, y = [row["members"] for row in found], [row["seconds_per_member"] / alone for row in found]
        members.plot(x, y, "o-", ms=4, label=work.split()[0])
    members.set(xlabel="members of a sweep", ylabel="time per member (1 = alone)", title="CartPole-v1, all devices")
    members.legend(frameon=False)
    ((work, found),) = _by_work(rows, "envs").items()
    envs.plot([row["num_envs"] for row in found], [row["steps_per_s"] / 1000 for row in found], "o-", ms=4)
    envs.set(xlabel="environments of one seed", ylabel="thousand environment steps/s", title=work)
    ((work, found),) = _by_work(rows, "devices").items()
    devices.plot([row["devices"] for row in found], [row["seconds"] for row in found], "o-", ms=4)
    devices.set(xlabel="CPU devices", ylabel="seconds", title=work)
    for ax in (members, envs, devices):
        ticks = sorted({x for line in ax.lines for x in line.get_xdata()})
        ax.set(xscale="log", ylim=(0, 1.08 * max(y for line in ax.lines for y in line.get_ydata())))
        ax.set_xticks(ticks, [str(x) for x in ticks])
        ax.title.set_size("medium")
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    plot.save(fig, out)


def curves(rows: list[Row], out: Path) -> None:
    """Return in training of every agent on CartPole-v1, mean and interval over seeds."""
    fig, ax = plot.pyplot().subplots(figsize=(7, 4), layout="constrained")
    for row in rows:
        if "curve" not in row or " CartPole-v1" not in row["name"]:
            continue
        curve = {name: [float("nan") if x is None else x for x in values] for name, values in row["curve"].items()}
        label = row["name"].partition(" (")[0].partition(" CartPole")[0].rstrip(",")
        (line,) = ax.plot(curve["env_steps"], curve["mean"], label=label)
        ax.fill_between(curve["env_steps"], curve["low"], curve["high"], alpha=0.2, color=line.get_color(), lw=0)
    ax.set(
        xlabel="environment steps", ylabel="return in training", ylim=(0, None), title="CartPole-v1, 8 seeds, 95 % intervals"
    )
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize="small")
    plot.save(fig, out)


def _by_work(rows: list[Row], part: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] == part:
            found.setdefault(row["work"], []).append(row)
    return found
