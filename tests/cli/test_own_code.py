"""Own agents, environments, torsos and callbacks out of files: what docs/howto shows, through the command line."""

import json
import signal
import subprocess

import pytest

from tests import pages
from tests.command_line import command, jaxrl_cli, wait_for

SMALL = ["--seeds", 2, "--preset", "none"]
TORSO = ["--num-envs", 2, "--rollout-length", 8, "--num-epochs", 1, "--num-minibatches", 1]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The page's files, in the working directory."""
    pages.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_everything_own_is_killed_and_resumed_bit_for_bit(files):
    """An own agent in an own environment, with an own callback; then the file changes."""
    words = ["train", "linear_q.py:make", "--env", "corridor.py:make", "--env-kwarg", "length=5", *SMALL,
             "--total-steps", 400_000, "--eval-every", 100_000, "--callback", "solved.py:Solved(1000)"]  # fmt: skip
    whole, killed = files / "whole", files / "killed"
    jaxrl_cli(*words, "--out", whole)
    process = subprocess.Popen(command(*words, "--out", killed, "--checkpoint-every", 0), stderr=subprocess.DEVNULL)
    wait_for(lambda: list(killed.glob("checkpoints/*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    jaxrl_cli("resume", killed)
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    final = json.loads((whole / "summary.json").read_text())["final_return"]["mean"]
    assert final == pytest.approx(1 - 3 * 0.1, abs=1e-5)  # three steps that cost, and the last: the shortest way
    (files / "corridor.py").write_text((files / "corridor.py").read_text() + "\n# changed\n")
    refused = jaxrl_cli("resume", killed, code=2)
    assert "corridor.py" in refused.stderr and "--anyway" in refused.stderr and refused.stderr.count("\n") == 1
    jaxrl_cli("resume", killed, "--anyway")
    assert json.loads((killed / "config.json").read_text())["went_on_with"] == ["corridor.py:make has changed"]


def test_an_own_torso_trains_and_loads(files):
    out = files / "torso"
    jaxrl_cli("train", "ppo", "--env", "corridor.py:make", "--torso", "wide.py:Wide", *SMALL, *TORSO,
              "--total-steps", 2000, "--out", out)  # fmt: skip
    assert json.loads((out / "config.json").read_text())["config"]["torso"] == "wide.py:Wide"
    jaxrl_cli("eval", out, "--episodes", 2)


def test_an_own_callback_stops_at_the_same_step_whatever_the_chunks(files):
    words = ["train", "linear_q.py:make", "--env", "corridor.py:make", *SMALL, "--total-steps", 50_000,
             "--eval-every", 2_000, "--callback", "solved.py:Solved(0.5)"]  # fmt: skip
    jaxrl_cli(*words, "--out", files / "a")
    jaxrl_cli(*words, "--out", files / "b", "--checkpoint-every", 0)
    assert rows(files / "a") == rows(files / "b") and rows(files / "a")[-1]["env_steps"] < 50_000
    assert "solved at" in json.loads((files / "a" / "summary.json").read_text())["stopped"]


def test_a_sweep_of_own_code(files):
    out = files / "sweep"
    jaxrl_cli("sweep", "linear_q.py:make", "--env", "corridor.py:make", "--grid", "learning_rate=0.01,0.1",
              "--grid", "env.cost=0.1,0.2", *SMALL, "--total-steps", 4000, "--out", out)  # fmt: skip
    assert len(json.loads((out / "summary.json").read_text())["configs"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere.py:make", "--env", "corridor.py:make"], "nowhere.py"),
        (["train", "linear_q.py:mkae", "--env", "corridor.py:make"], "nearest: make"),
        (["train", "linear_q.py:make", "--env", "corridor.py:nothing"], "corridor.py"),
        (["train", "ppo", "--env", "CartPole-v1", "--torso", "corridor.py:make"], "torso"),
        (["train", "ppo", "--env", "CartPole-v1", "--callback", "solved.py:Solved"], "solved.py:Solved"),
    ],
)
def test_bad_names_are_one_line(words, message, files):
    done = jaxrl_cli(*words, "--out", files / "bad", code=2)
    assert message in done.stderr and done.stderr.count("\n") == 1 and not (files / "bad").exists()
