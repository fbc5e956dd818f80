"""The commands that a report gives train the same run again, to the last byte of metrics."""

import shlex

import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.experiment.experiment import resolve
from jaxrl.show import reproduce
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import reading

pytestmark = pytest.mark.usefixtures("keep_platform", "no_pictures")


def again(command, out):
    """Run a command as it is typed, into another directory."""
    program, *words = shlex.split(command)
    assert program == "jaxrl" and cli.main([*words, "--out", str(out)]) == 0


def test_a_run_of_a_preset_and_of_flags_of_every_kind(tmp_path):
    words = ["train", "ppo", "--env", "CartPole-v1", "--seeds", "2", "--seed", "3", "--total-steps", "2000",
             "--hidden-sizes", "16", "8", "--learning-rate", "0.0012", "--shared-torso", "--activation", "relu",
             "--eval-every", "1000", "--env-param", "max_steps_in_episode=50"]  # fmt: skip
    assert cli.main([*words, "--out", str(tmp_path / "a")]) == 0
    (command,) = reproduce.commands(reading.read_plan(tmp_path / "a"))
    assert "--preset none" in command and "--hidden-sizes 16 8" in command and "--shared-torso" in command
    again(command, tmp_path / "b")
    assert (tmp_path / "b" / "metrics.jsonl").read_bytes() == (tmp_path / "a" / "metrics.jsonl").read_bytes()
    assert b'"eval_return"' in (tmp_path / "b" / "metrics.jsonl").read_bytes()


@pytest.mark.release
def test_a_sweep_of_a_grid_and_of_draws(tmp_path):
    found = jaxrl.sweep("q_learning", "CliffWalking", grid={"num_envs": [1, 2]}, random={"learning_rate": "log:0.1,1"},
                        samples=2, seeds=2, seed=5, total_steps=2000, preset="none", out=tmp_path / "a")  # fmt: skip
    (command,) = reproduce.commands(reading.read_plan(tmp_path / "a"))
    again(command, tmp_path / "b")
    assert reading.read_plan(tmp_path / "b").configurations == found.configs
    waves = sorted((tmp_path / "a" / "waves").iterdir())
    assert len(waves) == 2
    for wave in waves:
        assert (tmp_path / "b" / "waves" / wave.name / "metrics.jsonl").read_bytes() == (wave / "metrics.jsonl").read_bytes()


def test_configurations_given_one_by_one_are_a_command_each():
    base = resolve("q_learning", "CliffWalking", total_steps=2000, preset="none")
    plan = plans.make(base, [{"learning_rate": 0.25}, {"env.max_steps_in_episode": 9.0}], 2, 7)
    one, other = reproduce.commands(plan)
    words = "jaxrl sweep q_learning --env CliffWalking --preset none --total-steps 2000 --seeds 2 --seed 7 --grid "
    assert (one, other) == (words + "learning_rate=0.25", words + "env.max_steps_in_episode=9.0")
