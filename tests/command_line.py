"""The real command line in subprocesses."""

import subprocess
import sys
import time

from tests.small import home, small_config

SWEEP_WORDS = ["sweep", "q_learning", "--env", "CliffWalking", "--preset", "none", "--seeds", 3, "--total-steps", 40_000,
         "--grid", "learning_rate=0.1,0.5", "--grid", "num_envs=1,2", "--eval-every", 20_000]  # fmt: skip


def command(*words):
    return [sys.executable, "-W", "error::UserWarning", "-m", "jaxrl", *map(str, words)]


def jaxrl_cli(*words, code=0):
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def flags(agent, steps):
    config = [
        word
        for name, value in small_config(agent).items()
        for word in (f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)]))
    ]
    return [
        "train",
        agent,
        "--env",
        home(agent),
        "--seeds",
        3,
        "--seed",
        5,
        "--total-steps",
        steps,
        "--preset",
        "none",
        *config,
    ]


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        if process.poll() is not None:
            return
        time.sleep(0.01)
