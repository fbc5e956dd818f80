"""Sweeps through the real command line: what is written, that a kill costs nothing, and what is refused."""

import json
import random
import signal
import subprocess
import time

import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.sweeps import directory, reading
from tests import directories
from tests.command_line import SWEEP_WORDS, command, jaxrl_cli, jaxrl_process, wait_for
from tests.small import assert_trees_equal

pytestmark = pytest.mark.usefixtures("keep_platform")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "whole"
    return out, jaxrl_process(*SWEEP_WORDS, "--out", out, "--json")


def test_the_plan_and_one_json_object_are_printed(whole):
    out, done = whole
    assert "4 configurations × 3 seeds = 12 members, 480,000 steps, 2 programs" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["agent"], result["env"], result["seeds"], result["programs"]) == ("q_learning", "CliffWalking", 3, 2)
    assert result["configs"][1] == {"learning_rate": 0.1, "num_envs": 2} and len(result["configs"]) == 4
    assert np.array(result["final_return"]).shape == (4, 3)
    assert result["env_steps"] == 480_000 and result["diverged"] == [] and result["out"] == str(out)
    assert result["steps_per_s"] == round(result["env_steps"] / result["run_s"])
    assert result["compile_s"] > 0
    assert json.loads((out / "summary.json").read_text()) == result
    assert {"config.json", "waves", "summary.json", "curves.png", "effects.png"} <= {p.name for p in out.iterdir()}


def test_it_is_read_back_as_the_library_computes_it(whole):
    found = reading.load(whole[0])
    made = jaxrl.sweep("q_learning", "CliffWalking", grid={"learning_rate": [0.1, 0.5], "num_envs": [1, 2]}, seeds=3,
                       total_steps=40_000, preset="none")  # fmt: skip
    for name, x in made.metrics.items():
        np.testing.assert_array_equal(found.metrics[name], x, err_msg=name)
        assert found.metrics[name].dtype == x.dtype
    np.testing.assert_array_equal(found.final_return, made.final_return.astype(np.float32))
    assert_trees_equal(found.agent(2, 1)[1], made.agent(2, 1)[1])
    evaluated = np.isfinite(found.metrics["eval_return"]).sum(-1)
    assert (evaluated == 2).all()


def test_a_wave_says_what_it_is(whole, capsys):
    """Its directory has a run's files; it is the sweep that is gone on with."""
    wave = whole[0] / "waves" / "0-0"
    names = {"config.json", "metrics.jsonl", "timing.jsonl", "checkpoints", "summary.json"}
    assert names <= {path.name for path in wave.iterdir()}
    assert cli.main(["resume", str(wave)]) == 2
    assert f"{wave} is a wave, not a run or sweep" in capsys.readouterr().err


def test_a_finished_sweep_has_nothing_for_a_sink(whole, capsys):
    """One line says so; nothing of the waves is touched."""
    before = {path: path.stat().st_mtime_ns for path in (whole[0] / "waves").rglob("*")}
    assert cli.main(["resume", str(whole[0]), "--tensorboard"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line]
    assert said == [
        f"jaxrl: {whole[0]} is finished: nothing is left to write to TensorBoard or W&B (--total-steps N trains on)"
    ]
    assert {path: path.stat().st_mtime_ns for path in (whole[0] / "waves").rglob("*")} == before


def test_a_finished_sweep_says_that_nothing_is_left(whole, capsys):
    assert cli.main(["resume", str(whole[0])]) == 0
    assert f"{whole[0]} was finished: nothing was left to train (--total-steps N trains on)" in capsys.readouterr().err


def test_a_picture_that_cannot_be_drawn_is_a_warning():
    """The summary is written all the same: without it a directory counts as unfinished for ever."""

    def broken(what):
        raise ZeroDivisionError(what)

    with pytest.warns(
        UserWarning, match=r"pictures are not drawn: ZeroDivisionError\('no height'\) \(.*test_directory.py, line \d+\)"
    ):
        directory.drawn(broken, "no height")


def test_eval_takes_the_best_configuration_or_the_one_asked_for(whole, capsys):
    result = reading.load(whole[0])
    for words, config in (([], result.best()), (["--config", "0"], 0)):
        assert cli.main(["eval", str(whole[0]), "--episodes", "8", "--json", *words]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["config"] == config and np.array(found["returns"]).shape == (3, 8)


def test_killed_at_random_moments_and_resumed_is_the_same_sweep(whole, tmp_path):
    """kill -9 three times, with a checkpoint after every chunk; waves finished before are not touched again."""
    out = tmp_path / "killed"
    words, finished = [*SWEEP_WORDS, "--out", out, "--checkpoint-every", 0], {}
    for _ in range(3):
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        known = len(list(out.glob("waves/*/checkpoints/*")))
        wait_for(lambda: len(list(out.glob("waves/*/checkpoints/[0-9]*"))) != known, process)  # noqa: B023
        time.sleep(random.random() * 0.5)
        process.kill()
        process.wait()
        for path, modified in finished.items():
            assert path.stat().st_mtime_ns == modified
        finished = {path: path.stat().st_mtime_ns for path in out.glob("waves/*/summary.json")}
        words = ["resume", out, "--checkpoint-every", 0]
    jaxrl_cli("resume", out)
    for wave in sorted((whole[0] / "waves").iterdir()):
        assert (out / "waves" / wave.name / "metrics.jsonl").read_bytes() == (wave / "metrics.jsonl").read_bytes()
    a, b = reading.load(whole[0]), reading.load(out)
    np.testing.assert_array_equal(a.final_return, b.final_return)
    assert_trees_equal(a.agent(3, 2)[1], b.agent(3, 2)[1])


def test_a_signal_says_how_to_resume_the_sweep(tmp_path):
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        command(*SWEEP_WORDS, "--total-steps", 4_000_000, "--out", out), stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(out.glob("waves/*/timing.jsonl")), process)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert printed.splitlines()[-1].endswith(f"go on with: jaxrl resume {out}")


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*map(str, SWEEP_WORDS), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["programs"], plan["members"], plan["waves"], len(plan["configs"])) == (2, 12, 2, 4)
    assert 0 < plan["bytes"] < 10_000_000 and not list(tmp_path.iterdir())


BAD = [
    (["--grid", "learning_rte=1"], "unknown setting of q_learning 'learning_rte'; nearest: learning_rate"),
    (["--grid", "learning_rate="], "--grid 'learning_rate=' must look like name=A,B"),
    (["--grid", "gamma=0.9", "--grid", "gamma=0.8"], "--grid gamma is given twice"),
    ([], "a sweep needs something to vary"),
    (["--grid", "gamma=0.9", "--seeds", "0"], "seeds = 0 is out of range"),
    (["--random", "num_envs=log:1,8", "--samples", "2"], "num_envs is static"),
    (["--grid", "gamma=0.9", "--memory-limit", "lots"], "memory limit 'lots'"),
    (["--grid", "gamma=0.9", "--gird", "gamma=0.9"], "nearest: --grid"),
    (["--grid", "env.max_steps=0"], "nearest: env.max_steps_in_episode"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxrl.devices.programs.Programs.chunk", property(lambda self: pytest.fail("compiled")))
    assert cli.main(["sweep", "q_learning", "--env", "CliffWalking", *words, "--out", "x"]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not list(tmp_path.iterdir())


def test_only_a_former_sweep_is_overwritten(whole, tmp_path, capsys):
    words = [*map(str, SWEEP_WORDS), "--out"]
    (tmp_path / "mine.txt").write_text("keep")
    for extra in ([], ["--overwrite"]):
        assert cli.main([*words, str(tmp_path), *extra]) == 2
    assert cli.main([*words, str(whole[0])]) == 2
    assert "exists and is not empty; give another, or --overwrite what was trained there" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is damaged: "),
        ("[]", "config.json is damaged: it is no JSON object"),
        ("{}", "config.json is damaged: it has no jaxrl"),
        ('{"jaxrl": 3, "kind": "sweep"}', "config.json is damaged: it has no agent"),
        (json.dumps(directories.config("sweep", seeds="3")), "config.json is damaged: seeds is '3', not of type int"),
    ],
)
def test_a_damaged_sweep_is_named(text, message, tmp_path, capsys):
    (tmp_path / "config.json").write_text(text)
    assert cli.main(["resume", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_sweep_says_how_to_go_on(whole, tmp_path):
    import shutil

    shutil.copytree(whole[0], tmp_path / "part")
    (tmp_path / "part" / "waves" / "1-0" / "summary.json").unlink()
    with pytest.raises(ValueError, match="1-0 is not finished; go on with: jaxrl resume"):
        reading.load(tmp_path / "part")
