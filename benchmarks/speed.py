"""Speed of DQN and PPO beside rejax's on the same work in the same run: `python -m benchmarks.speed [dqn|ppo]`.

CartPole-v1 with CleanRL's settings and 64-64 hidden units. DQN: 10 environments, replay 10k, learning from step 10k, batch
128, one update per 10 steps, target every 500, relu. PPO: 4 environments × 128 steps, 4 epochs × 4 minibatches, tanh. Ours
and theirs take turns, each in a process of its own that runs the work twice; the best of each counts.
rejax needs gymnax < 1 and so a virtual environment of its own, made in .peers/rejax on the first run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import record
from jaxrl import platform

ROOT = Path(__file__).parent.parent
PEER = ROOT / ".peers" / "rejax" / "bin" / "python"
REQUIREMENTS = ["rejax==0.1.3", "gymnax<1", "jax==0.10.2"]
STEPS, ROUNDS, TIME_LIMIT = 500_000, 3, 300
MUST = {("dqn", 1): ">= 2.5", ("dqn", 8): ">= 2.5", ("ppo", 1): ">= 1.1"}


def ours(agent: str, seeds: int) -> dict[str, float]:
    """Compile and run the same work with jaxrl in this process."""
    platform.configure(min(seeds, platform.cores()))
    import jax
    import jax.numpy as jnp

    import jaxrl
    from jaxrl.layout import Layout

    jax.config.update("jax_enable_compilation_cache", False)
    trainer = jaxrl.make_trainer(agent, "CartPole-v1", total_steps=STEPS, config={"hidden_sizes": (64, 64)})
    layout = Layout.over_all_devices(seeds)
    keys = layout.pad(jax.vmap(jax.random.key)(jnp.arange(seeds)))
    start = time.perf_counter()
    compiled = layout.map(trainer.train).lower(keys).compile()
    compile_s = time.perf_counter() - start
    times = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(compiled(keys))
        times.append(time.perf_counter() - start)
    return {"compile_s": compile_s, "run_s": min(times), "steps_per_s": seeds * STEPS / min(times)}


def in_process(words: list[str]) -> dict[str, float] | None:
    """The last line of a process as JSON; None where it overran its time: a vmapped peer can hang on CPU."""
    try:
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=TIME_LIMIT, check=True, cwd=ROOT, env=environment
        )
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.splitlines()[-1])


def install_peer() -> None:
    """Make rejax's virtual environment where it is missing."""
    if not PEER.exists():
        subprocess.run([sys.executable, "-m", "venv", PEER.parent.parent], check=True)
        subprocess.run([PEER, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)


def beside(agent: str, seeds: int) -> dict[str, Any]:
    """One row: both libraries in turn, three rounds for one seed and one for several."""
    peer = ROOT / "benchmarks" / "peers" / "rejax_peer.py"
    commands = {
        "jaxrl": [sys.executable, "-m", "benchmarks.speed", agent, str(seeds)],
        "rejax": [str(PEER), "-W", "ignore", str(peer), agent, str(STEPS), str(seeds)],
    }
    rounds = [{name: in_process(words) for name, words in commands.items()} for _ in range(ROUNDS if seeds == 1 else 1)]
    best: dict[str, Any] = {}
    for name in commands:
        speeds = [r["steps_per_s"] for r in (turn[name] for turn in rounds) if r]
        compiles = [r["compile_s"] for r in (turn[name] for turn in rounds) if r]
        best[name] = round(max(speeds)) if speeds else None
        best[f"{name}_rounds"] = [round(s) for s in speeds]
        best[f"{name}_compile_s"] = round(min(compiles), 2) if compiles else None
    ratio = best["jaxrl"] / best["rejax"] if best["rejax"] else None
    work = f"{agent.upper()} CartPole-v1, {STEPS:,} steps"
    return {"work": work, "seeds": seeds, **best, "ratio": ratio, "must": MUST.get((agent, seeds))}


def main(agents: list[str]) -> None:
    """Measure 1 and 8 seeds of each agent, and keep benchmarks/results/speed.json; other agents' rows stay."""
    install_peer()
    file = record.RESULTS / "speed.json"
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = {(row["work"], row["seeds"]): row for row in kept}
    for agent in agents:
        for seeds in (1, 8):
            row = beside(agent, seeds) | {"measured": record.stamp()}
            rows[row["work"], seeds] = row
            record.show([row])
            record.save("speed", list(rows.values()))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(ours(sys.argv[1], int(sys.argv[2]))))
    else:
        main(sys.argv[1:] or ["dqn", "ppo"])
