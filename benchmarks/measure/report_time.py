"""The report of a large sweep, written and opened: `python -m benchmarks run report_time`.

64 members of 1,000 iterations: seconds to write, megabytes, seconds until a browser shows it; and README's picture of it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxrl
from benchmarks.harness import browser, processes, result_files, timing
from benchmarks.harness.runner import ANY_WORK, Row
from jaxrl.core.errors import InputError

ROUNDS = 5
GRID = {"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3], "gamma": [0.98, 0.99]}
SEEDS, STEPS = 8, 512_000  # an iteration of PPO on CartPole-v1 is 512 steps


def report(smoke: bool) -> Iterator[Row]:
    """The command's whole time, imports and compiling included; opening: from the request to the page's load event."""
    if not (smoke or browser.available()):
        raise InputError("report_time needs a browser: Debian's packages chromium and chromium-driver")
    with tempfile.TemporaryDirectory() as folder:
        out, page = Path(folder) / "sweep", Path(folder) / "report.html"
        grid: dict[str, Any] = {"gamma": [0.98, 0.99]} if smoke else GRID
        agent, env = ANY_WORK if smoke else ("ppo", "CartPole-v1")
        seeds, steps = (2, 2_000) if smoke else (SEEDS, STEPS)
        result = jaxrl.sweep(agent, env, grid=grid, seeds=seeds, total_steps=steps, out=out)
        words = [*processes.JAXRL, "report", str(out), "--out", str(page)]
        written = [_seconds(words) for _ in range(1 if smoke else ROUNDS)]
        opened = [_opening(page) for _ in range(1 if smoke else ROUNDS)] if browser.available() else []
        if not smoke:
            with browser.opened(page) as driver:
                driver.save_screenshot(str(result_files.RESULTS / "report.png"))
        yield {
            "work": f"{result.final_return.size} members, {result.metrics['env_steps'].shape[-1]:,} iterations",
            "write_s": timing.median(written),
            "megabytes": page.stat().st_size / 1e6,
            "open_s": timing.median(opened) if opened else None,
            "runs_s": {"write": written, "open": opened},
            "must": "write <= 20 s, <= 10 MB, open <= 2 s",
        }


def _seconds(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=processes.ROOT)
    return time.perf_counter() - begin


def _opening(page: Path) -> float:
    with browser.opened(page) as driver:
        return driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000


PARTS = {"report": report}
