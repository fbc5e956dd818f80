"""Runs through the real command line in subprocesses: what is written, and that nothing can stop a run but an end."""

import json
import random
import signal
import subprocess
import time

import numpy as np
import pytest

import jaxrl
from jaxrl.experiment import registry
from jaxrl.runs import directory, driver
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import reading
from tests.command_line import command, flags, jaxrl_cli, wait_for
from tests.small import assert_same_run, released

STEPS = {"q_learning": 60_000, "dqn": 30_000}  # so that a run lasts some seconds


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """One whole run for each agent, made when first asked for; q_learning's is drawn, with checkpoints after every chunk."""
    made = {}

    def of(agent):
        if agent not in made:
            made[agent] = tmp_path_factory.mktemp(agent) / "whole"
            table, steps = agent == "q_learning", STEPS[agent]
            often = ["--checkpoint-every", 0] if table else []
            words = [*flags(agent, steps), "--out", made[agent], "--eval-every", steps // 3, *often]
            jaxrl_cli(*words, pictures=table)
        return made[agent]

    return of


def test_killed_at_a_random_moment_and_resumed_is_the_same_run(uninterrupted, tmp_path):
    """kill -9 twice, with checkpoints far more often than in the uninterrupted run, and other chunk lengths."""
    whole, out = uninterrupted("dqn"), tmp_path / "killed"
    words = [*flags("dqn", STEPS["dqn"]), "--out", out, "--eval-every", STEPS["dqn"] // 3, "--checkpoint-every", 0.05]
    for attempt in range(2):
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        steps = list((out / "checkpoints").glob("*")) if attempt else []
        wait_for(lambda: sorted((out / "checkpoints").glob("[0-9]*")) != sorted(steps), process)  # noqa: B023
        time.sleep(random.random() * 0.5)
        process.kill()
        process.wait()
        words = ["resume", out, "--checkpoint-every", 0.05]
    jaxrl_cli("resume", out)
    assert_same_run(whole, out)


def test_evaluations_come_at_fixed_steps_and_are_timed_apart(uninterrupted):
    """At the first iteration that reaches a multiple of 10,000 steps; their seconds are no part of the training's."""
    whole = uninterrupted("dqn")
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row["env_steps"] for row in rows if "eval_return" in row]
    per = rows[0]["env_steps"]
    assert evaluated == [-(-every // per) * per for every in (10_000, 20_000, 30_000) for _ in range(3)]
    timing = [json.loads(line) for line in (whole / "timing.jsonl").read_text().splitlines()]
    assert [row["env_steps"] for row in timing if "eval_seconds" in row] == evaluated[::3]
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["run_s"] == pytest.approx(sum(row["seconds"] for row in timing), abs=1e-3)
    assert summary["eval_s"] == pytest.approx(sum(row.get("eval_seconds", 0) for row in timing), abs=1e-3)
    assert 0 < summary["eval_s"]


@pytest.mark.parametrize("number", [signal.SIGINT, *released(signal.SIGTERM)])
def test_signals_checkpoint_and_say_how_to_resume(number, uninterrupted, tmp_path):
    agent, out = "q_learning", tmp_path / "stopped"
    words = [*flags(agent, STEPS[agent]), "--out", out, "--eval-every", STEPS[agent] // 3]
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "timing.jsonl").exists(), process)
    process.send_signal(number)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"go on with: jaxrl resume {out}" in printed.splitlines()[-1]
    jaxrl_cli("resume", out)
    assert_same_run(uninterrupted(agent), out)


def damage(checkpoint, how):
    content = checkpoint.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    checkpoint.write_bytes({"truncated": content[:middle], "flipped": flipped, "emptied": b""}[how])


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied"])
def test_damaged_newest_checkpoint_falls_back_with_a_warning(how, uninterrupted, tmp_path):
    import shutil

    whole, out = uninterrupted("q_learning"), tmp_path / "damaged"
    shutil.copytree(whole, out)
    newest = max((out / "checkpoints").iterdir(), key=lambda p: int(p.stem))
    damage(newest, how)
    with pytest.warns(UserWarning, match=f"{newest} is damaged"):
        jaxrl_cli("resume", out)
    assert_same_run(whole, out)


def test_every_checkpoint_damaged_is_refused(uninterrupted, tmp_path):
    import shutil

    out = tmp_path / "damaged"
    shutil.copytree(uninterrupted("q_learning"), out)
    for checkpoint in (out / "checkpoints").iterdir():
        damage(checkpoint, "emptied")
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.warns(UserWarning, match="is damaged"):
        done = jaxrl_cli("resume", out, code=2)
    assert done.stderr.splitlines()[-1].startswith("jaxrl: error: no checkpoint in")
    assert (out / "metrics.jsonl").read_bytes() == before


def test_one_process_at_a_time_trains_into_a_directory(uninterrupted, tmp_path, monkeypatch):
    """The lock is of the open file, so that this process stands for another; nothing is changed under it."""
    import shutil

    out = tmp_path / "taken"
    shutil.copytree(uninterrupted("q_learning"), out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    plan = reading.read_plan(out)
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.2)
    with directory.held(out):
        for work in (lambda: sweeps.resume(out), lambda: sweeps.train(plan, out, overwrite=True)):
            with pytest.raises(ValueError, match="taken is being trained by another process$"):
                work()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    sweeps.resume(out)


def test_run_directory_says_everything(uninterrupted):
    out = uninterrupted("q_learning")
    assert {p.name for p in out.iterdir()} == {
        "config.json", "metrics.jsonl", "timing.jsonl", "summary.json", "checkpoints",
        "curve.png", "values.png", "policy.gif",
    }  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    _, factory = registry.find_agent("q_learning")
    assert set(config["config"]) == {f for f in factory.Config.__dataclass_fields__}
    assert set(config["hparams"]) == {f for f in factory.HParams.__dataclass_fields__}
    assert {"python", "jax", "jaxrl", "gymnax"} <= set(config["versions"])
    assert config["members"] == [{"seed": 5}, {"seed": 6}, {"seed": 7}] and config["program"]["form"] == "vmap"
    assert config["device"]["platform"] == "cpu" and "git_commit" in config
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = STEPS["q_learning"]
    iterations = steps // lines[0]["env_steps"] + (steps % lines[0]["env_steps"] > 0)
    assert [(r["iteration"], r["seed"]) for r in lines] == [(i, s) for i in range(iterations) for s in (5, 6, 7)]
    evaluated = sorted({r["env_steps"] for r in lines if "eval_return" in r})
    per = lines[0]["env_steps"]
    assert evaluated == [-(-(k * steps // 3) // per) * per for k in (1, 2, 3)]  # the first boundary at or past each
    summary = json.loads((out / "summary.json").read_text())
    assert summary["env_steps"] == 3 * lines[-1]["env_steps"]


def test_a_members_rows_do_not_depend_on_the_run_they_are_in(uninterrupted, tmp_path):
    """Seeds 6 and 7 of a run of 5, 6, 7 (two devices, one padded) equal a run of 6, 7 (two devices)."""
    words = flags("q_learning", STEPS["q_learning"])
    words[words.index("--seeds") + 1], words[words.index("--seed") + 1] = 2, 6
    jaxrl_cli(*words, "--out", tmp_path / "two", "--eval-every", STEPS["q_learning"] // 3)
    rows = [json.loads(x) for x in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    whole = (uninterrupted("q_learning") / "metrics.jsonl").read_text().splitlines()
    assert rows == [r for r in map(json.loads, whole) if r["seed"] in (6, 7)]


def test_one_seed_runs_unvmapped_loads_with_a_seeds_axis_and_resumes(tmp_path):
    out = tmp_path / "one"
    words = flags("q_learning", 3000)
    words[words.index("--seeds") + 1] = 1
    jaxrl_cli(*words, "--out", out)
    assert json.loads((out / "config.json").read_text())["program"] == {"form": "single", "devices": 1, "width": 1}
    trainer, states = jaxrl.load(out)
    assert all(x.shape[0] == 1 for x in map(np.asarray, (states.iteration, states.obs)))
    import jax

    first, _ = jax.jit(trainer.train)(jax.random.key(5))
    np.testing.assert_allclose(jaxrl.member(states, 0).agent.q, first.agent.q, rtol=1e-5, atol=1e-6)
    before = (out / "metrics.jsonl").read_bytes()
    jaxrl_cli("resume", out)
    assert (out / "metrics.jsonl").read_bytes() == before


def test_checkpoints_are_kept_two_and_hold_every_leaf(uninterrupted):
    folder = uninterrupted("dqn") / "checkpoints"
    assert len(list(folder.iterdir())) <= 2
    trainer, states = jaxrl.load(folder.parent)
    assert Checkpoints(folder).restore(states) is not None
    assert int(states.iteration[0]) == trainer.num_iterations


def test_a_run_does_not_go_on_on_another_kind_of_device(uninterrupted, tmp_path):
    import shutil

    out = tmp_path / "gpu"
    shutil.copytree(uninterrupted("q_learning"), out)
    config = json.loads((out / "config.json").read_text())
    config["device"]["platform"] = "gpu"
    (out / "config.json").write_text(json.dumps(config))
    done = jaxrl_cli("resume", out, code=2)
    assert "ran on gpu, here is cpu" in done.stderr and done.stderr.count("\n") == 1


def test_what_decides_bits_otherwise_is_refused_or_marked(uninterrupted, tmp_path):
    import shutil

    out = tmp_path / "other"
    shutil.copytree(uninterrupted("q_learning"), out)
    config = json.loads((out / "config.json").read_text())
    config["bits"]["jax_threefry_partitionable"] = not config["bits"]["jax_threefry_partitionable"]
    (out / "config.json").write_text(json.dumps(config))
    refused = jaxrl_cli("resume", out, code=2).stderr
    assert "jax_threefry_partitionable" in refused and "--anyway" in refused and refused.count("\n") == 1
    jaxrl_cli("resume", out, "--anyway")
    (marked,) = json.loads((out / "config.json").read_text())["went_on_with"]
    assert "jax_threefry_partitionable" in marked


def test_an_interruption_passes_between_processes():
    import pickle

    again = pickle.loads(pickle.dumps(driver.Interruption("stopped by SIGTERM", 15)))
    assert (str(again), again.number) == ("stopped by SIGTERM", 15)
