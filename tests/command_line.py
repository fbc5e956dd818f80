"""The command line: in this process, where a command is called for what it writes, and in one of its own."""

import contextlib
import io
import subprocess
import sys
import time
from unittest import mock

from jaxrl.cli import main as cli
from tests.small import assert_same_run, home, small_config

SWEEP_WORDS = ["sweep", "q_learning", "--env", "CliffWalking", "--preset", "none", "--seeds", 3, "--total-steps", 40_000,
         "--grid", "learning_rate=0.1,0.5", "--grid", "num_envs=1,2", "--eval-every", 20_000]  # fmt: skip


UNREADABLE = "ignore:Error reading persistent compilation cache"  # half written by a process that was killed: compiled again


def command(*words):
    return [sys.executable, "-W", "error::UserWarning", "-W", UNREADABLE, "-m", "jaxrl", *map(str, words)]


def jaxrl_process(*words, code=0):
    """A command in a process of its own: Python and JAX start in 2 seconds."""
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def jaxrl_cli(*words, code=0, pictures=False):
    """A command in this process; its backend is running, so its settings stay. pictures: whether training draws some."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.ExitStack() as patched:
        patched.enter_context(mock.patch("jaxrl.devices.platform.configure"))
        if not pictures:
            patched.enter_context(without_pictures())
        found = cli.main([*map(str, words)])
    assert found == code, err.getvalue()
    return subprocess.CompletedProcess(words, found, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def without_pictures():
    """Training draws nothing: curves and films are most of the time of a small run, and the same for each."""
    with mock.patch.multiple("jaxrl.show.pictures", draw=lambda *_: None, draw_tuning=lambda *_: None):
        yield


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


def wait_for(condition, process, seconds=120, pause=0.01):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        if process.poll() is not None:
            return
        time.sleep(pause)


def kill_after_checkpoints(*words, out, count):
    """Train into a directory in another process, with a checkpoint wherever there can be one; kill -9 after so many."""
    process = subprocess.Popen(command("train", *words, "--out", out, "--checkpoint-every", 0), stderr=subprocess.DEVNULL)
    wait_for(lambda: len([*(out / "checkpoints").glob("*.safetensors")]) >= count, process)
    process.kill()
    process.wait()
    assert not (out / "summary.json").exists()


def assert_killed_ends_as_whole(*words, folder):
    """A run that was killed and gone on with is the run that nobody killed."""
    jaxrl_cli("train", *words, "--out", folder / "whole")
    kill_after_checkpoints(*words, out=folder / "killed", count=2)
    jaxrl_cli("resume", folder / "killed")
    assert_same_run(folder / "whole", folder / "killed")
