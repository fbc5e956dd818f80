"""Process start to the first progress line of `jaxrl train`, compile cache warm: `python -m benchmarks.startup`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record

RUNS = 5


def first_line_seconds(words: list[str], out: Path) -> float:
    """Seconds until the command prints its first line of progress; it is stopped there.

    The compile cache lies beside `out`.
    """
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache")}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*words, "--out", str(out)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " steps (" in line:
            break
    seconds = time.perf_counter() - start
    process.kill()
    process.communicate()
    return seconds


def main() -> None:
    """Measure the command of `make train`, and keep benchmarks/results/startup.json."""
    words = [sys.executable, "-m", "jaxrl", "train", "dqn", "--env", "CartPole-v1", "--seeds", "4"]
    with tempfile.TemporaryDirectory() as folder:
        cold, *warm = [first_line_seconds(words, Path(folder) / "run") for _ in range(RUNS + 1)]
    row = {
        "command": "jaxrl train dqn --env CartPole-v1 --seeds 4",
        "median_s": sorted(warm)[RUNS // 2],
        "runs_s": [round(s, 2) for s in warm],
        "first_run_s": round(cold, 2),
        "must": "<= 4",
    }
    record.show([row])
    record.save("startup", [row])


if __name__ == "__main__":
    main()
