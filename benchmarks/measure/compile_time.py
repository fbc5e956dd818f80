"""What comes before the first step: tracing, compiling, starting a command: `python -m benchmarks run compile_time`.

programs: from `make_trainer` to a compiled `jit(trainer.train)`, CartPole-v1, nothing cached; imports do not count.
start: from process start to the first progress of `make train`'s command, with an empty compile cache and with a warm one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

import jaxrl
from benchmarks.harness import processes, timing
from benchmarks.harness.runner import ANY_WORK, Row
from jaxrl.experiment import registry

COMMAND = ["train", "dqn", "--env", "CartPole-v1", "--seeds", "4"]
SMOKE = ["train", ANY_WORK[0], "--env", ANY_WORK[1]]


def seconds(agent: str) -> dict[str, float]:
    """What each stage takes."""
    processes.one_device()
    registry.find_agent(agent)
    registry.find_env("CartPole-v1")  # both import what they need; this one starts the backend
    marks = [time.perf_counter()]
    trainer = jaxrl.make_trainer(agent, "CartPole-v1")
    traced = jax.jit(trainer.train).trace(jax.random.key(0))
    marks.append(time.perf_counter())
    lowered = traced.lower()
    marks.append(time.perf_counter())
    lowered.compile()
    marks.append(time.perf_counter())
    stages = [after - before for before, after in zip(marks, marks[1:], strict=False)]
    return dict(zip(("trace", "lower", "compile"), stages, strict=True), total=sum(stages))


def programs(smoke: bool) -> Iterator[Row]:
    """Each agent in processes of their own."""
    for agent in ("dqn",) if smoke else ("dqn", "ppo"):
        runs = [processes.apart(smoke, seconds, agent) for _ in range(1 if smoke else 5)]
        stages = {stage: [run[stage] for run in runs] for stage in runs[0]}
        yield {
            "work": f"{agent.upper()} CartPole-v1, jit(train)",
            "median_s": {stage: timing.median(found) for stage, found in stages.items()},
            "runs_s": stages,
            "must": "<= 2.5",
        }


def first_line(words: list[str], out: Path) -> float:
    """Seconds until `jaxrl WORDS` prints its first line of progress; it is stopped there. The cache lies beside `out`."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache")}
    command = [sys.executable, "-m", "jaxrl", *words, "--out", str(out)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if " steps (" in line:
            break
    found = time.perf_counter() - start
    process.kill()
    process.communicate()
    return found


def start(smoke: bool) -> Iterator[Row]:
    """The command of `make train`, the first time with an empty cache."""
    words = SMOKE if smoke else COMMAND
    with tempfile.TemporaryDirectory() as folder:
        times = [first_line(words, Path(folder) / "run") for _ in range(1 if smoke else 6)]
    cold, warm = times[0], times[1:] or times  # a smoke starts it once
    yield {
        "command": " ".join(["jaxrl", *words]),
        "median_s": timing.median(warm),
        "runs_s": [round(s, 2) for s in warm],
        "first_run_s": round(cold, 2),
        "must": "<= 4",
    }


PARTS = {"programs": programs, "start": start}
