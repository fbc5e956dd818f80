"""README's pictures of runs, drawn by the runs themselves: `python -m benchmarks run pictures`.

train: the learning curve and the policy of `make train`. sweep: the effect of the learning rate. bandits: the figures of
experiments/bandit_testbed.py. What other pictures show is measured, and `report` draws it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import processes, result_files
from benchmarks.harness.runner import ANY_WORK, Row

TRAIN = ["train", "dqn", "--env", "CartPole-v1", "--seeds", "4"]
SMOKE = ["train", ANY_WORK[0], "--env", ANY_WORK[1]]
RATES = "learning_rate=1e-4,3e-4,1e-3,3e-3,1e-2"
SWEEP = ["sweep", "ppo", "--env", "CartPole-v1", "--grid", RATES, "--grid", "hidden_sizes=64x64,128x128", "--seeds", "8"]


def drawn(words: list[str], pictures: dict[str, str], smoke: bool) -> Iterator[Row]:
    """`jaxrl WORDS`, and its pictures {in its directory: in the results}."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        subprocess.run([*processes.JAXRL, *words, "--out", str(out)], check=True, cwd=processes.ROOT)
        for made, kept in pictures.items():
            shutil.copyfile(out / made, (Path(folder) if smoke else result_files.RESULTS) / kept)
    yield {"command": " ".join(["jaxrl", *words]), "pictures": list(pictures.values())}


def train(smoke: bool) -> Iterator[Row]:
    """curve.png and policy.gif."""
    yield from drawn(SMOKE if smoke else TRAIN, {"curve.png": "curve.png", "policy.gif": "policy.gif"}, smoke)


def sweep(smoke: bool) -> Iterator[Row]:
    """sweep_effects.png."""
    words = [*SWEEP, "--total-steps", "1000" if smoke else "100000"]
    yield from drawn(words, {"effects.png": "sweep_effects.png"}, smoke)


def bandits(smoke: bool) -> Iterator[Row]:
    """bandit_*.png, which the experiment keeps itself."""
    with tempfile.TemporaryDirectory() as folder:
        few = ["--problems", "4"] if smoke else []
        words = [str(processes.ROOT / "experiments" / "bandit_testbed.py"), "--out", folder, *few]
        subprocess.run([sys.executable, *words], check=True, cwd=processes.ROOT)
    yield {"command": "python experiments/bandit_testbed.py"}


PARTS = {"train": train, "sweep": sweep, "bandits": bandits}
SMOKES = ("train",)
