"""Other libraries on the same work: where each lives, how it is started, and taking turns with it.

A peer has a virtual environment of its own in .peers (rejax needs gymnax < 1), made when first wanted. One that cannot be
had, fails or overruns its time is said to be missing, and why.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import processes, timing
from benchmarks.harness.runner import Row

HOME = processes.ROOT / ".peers"
SCRIPTS = Path(__file__).parent


class Peer(NamedTuple):
    """home: its environment's folder. requirements: for pip, one call each. words: of its script, before the work's.

    limit: seconds of one process, where it is not the one of all.
    """

    home: str
    requirements: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    limit: float | None = None


SB3 = (("torch==2.13.0",), ("stable-baselines3==2.9.2", "sbx-rl==0.28.0", "jax==0.10.2"))
PEERS = {
    "rejax": Peer("rejax", (("rejax==0.1.3", "gymnax<1", "jax==0.10.2"),), ("rejax_peer.py",)),
    "sb3": Peer("sb3", SB3, ("sb3_peer.py", "sb3")),
    "sbx": Peer("sb3", SB3, ("sb3_peer.py", "sbx")),
    "torch": Peer("torch", (("torch==2.13.0", "ale-py==0.12.1", "gymnasium"),), ("torch_atari.py",)),
    "sb3_early": Peer("sb3", SB3, ("sb3_early.py",), limit=3600.0),
}


class Missing(Exception):
    """The peer gave no number, and why."""


def python(peer: Peer) -> Path:
    """The peer's interpreter, installed where it is not. Raises Missing."""
    home = HOME / peer.home
    installed = home / "installed"
    if not installed.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
            for requirements in peer.requirements:
                subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements], check=True)
        except subprocess.CalledProcessError as error:
            raise Missing("could not be installed") from error
        installed.touch()
    return home / "bin" / "python"


def run(name: str, *work: Any) -> dict[str, Any]:
    """One measurement of a peer. Raises Missing."""
    peer = PEERS[name]
    script, *words = peer.words
    try:
        command = [str(python(peer)), str(SCRIPTS / script), *words, *map(str, work)]
        return processes.last_line(command, peer.limit or processes.TIME_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"overran {error.timeout:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise Missing(f"failed with exit code {error.returncode}") from error


def row(runs: Mapping[str, Callable[[], dict[str, Any]]], must: dict[str, float], rounds: int) -> Row:
    """Median steps/s of ours, `runs["jaxrl"]`, and of the peers, taking turns; and how many times theirs ours is.

    must: the ratio that is asked for, by peer.
    """
    found, missing = in_turn(runs, rounds)
    speeds = {name: [round(x["steps_per_s"]) for x in turns] for name, turns in found.items() if turns}
    medians = {name: round(timing.median(turns)) for name, turns in speeds.items()}
    return {
        "steps_per_s": medians,
        "ratio": {peer: medians["jaxrl"] / medians[peer] for peer in medians if peer in PEERS},
        "must": must,
        "missing": missing,
        "rounds": speeds,
    }


def in_turn(
    runs: Mapping[str, Callable[[], dict[str, Any]]], rounds: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Each of `runs` once a round: what each gave, and why some gave nothing; those are not tried again."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name in runs:
            if name in missing:
                continue
            try:
                found[name].append(runs[name]())
            except Missing as why:
                missing[name] = str(why)
    return found, missing
