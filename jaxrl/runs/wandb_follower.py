"""The process beside a run that tells Weights & Biases of it: `sinks.Wandb` starts it, by its path.

It imports nothing of jaxrl, for that would import JAX a second time and take a GPU's memory. Its work comes as one line of
JSON on standard input (keys: see `sinks.Wandb`), whose end says that the run is over. A refusal of W&B is one line on
standard output and exit code 2.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import psutil

LOWEST = 19
POLL_SECONDS = 0.5
BLOCK = 2**20  # bytes read at once


def main() -> int:
    """Follow a run to its end; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then stops, and with it this
    os.nice(LOWEST)
    work, over = json.loads(sys.stdin.readline()), threading.Event()
    threading.Thread(target=await_end, args=(over,), daemon=True).start()
    import wandb

    try:
        follow(work, over)
    except wandb.errors.Error as error:
        print(" ".join(str(error).split()))
        return 2
    return 0


def await_end(over: threading.Event) -> None:
    """Wait until the run is over."""
    sys.stdin.read()
    over.set()


def yield_cores() -> None:
    """Give the session of W&B's service the lowest priority: Linux may share the cores among sessions before processes."""
    groups = [Path(f"/proc/{process.pid}/autogroup") for process in psutil.Process().children()]
    for group in (group for group in groups if group.exists()):
        with contextlib.suppress(BlockingIOError):  # it takes one such change in 0.1 s
            group.write_text(str(LOWEST))


def follow(work: dict[str, Any], over: threading.Event) -> None:
    """Log rows until the run is over, then its result."""
    import wandb

    wandb.setup()
    yield_cores()
    members = {name_of(member["config"]["member"]): Member(work, member) for member in work["members"]}
    with open(work["rows"], "rb") as file:
        file.seek(work["from_byte"])
        tail, last = Tail(file), False
        while not last:
            last = over.wait(POLL_SECONDS)
            for row in tail.rows():
                members[name_of(row)].log(row)
    summary = Path(work["summary"])
    finals = json.loads(summary.read_text())["final_return"]["per_seed"] if summary.exists() else [None] * len(members)
    pictures = [path for path in map(Path, work["pictures"]) if path.exists() and summary.exists()]
    for member, final in zip(members.values(), finals, strict=True):
        member.finish({"final_return": final}, pictures, finished=summary.exists())
        pictures = []  # they are the first member's


def name_of(row: dict[str, Any]) -> tuple[int | None, int]:
    """A member's name in its rows and in its label."""
    return row.get("config"), row["seed"]


class Tail:
    """The rows that come to a growing file of JSON lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._rest = file, b""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Those that are whole, since the last time."""
        while block := self._file.read(BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from map(json.loads, lines)


class Member:
    """A member's W&B run. Steps are env_steps."""

    def __init__(self, work: dict[str, Any], member: dict[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=work["project"],
            group=work["group"],
            id=member["id"],
            name=member["name"],
            config=member["config"],
            dir=None if "WANDB_DIR" in os.environ else work["directory"],
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", quiet=True),  # what is printed here is not the run's
        )
        self._first = self._run.step  # what was logged before this process, which a resumed run writes again, equal

    def log(self, row: dict[str, Any]) -> None:
        """Every number of a row, at its environment step, unless it is known there."""
        if row["env_steps"] >= self._first:
            left_out = ("iteration", "config", "seed", "env_steps")
            numbers = {k: +v for k, v in row.items() if v is not None and k not in left_out}  # +: W&B draws no booleans
            self._run.log(numbers, step=row["env_steps"])

    def finish(self, results: dict[str, Any], pictures: list[Path], finished: bool) -> None:
        """Log the results and pictures behind the last row, and close the run; without `finished` it counts as stopped."""
        import wandb

        media = {path.stem: (wandb.Video if path.suffix == ".gif" else wandb.Image)(str(path)) for path in pictures}
        numbers = {name: value for name, value in results.items() if value is not None}
        if media or numbers:
            self._run.log(numbers | media, step=self._run.step)
        self._run.finish(exit_code=0 if finished else 1)


if __name__ == "__main__":
    sys.exit(main())
