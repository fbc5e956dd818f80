"""`jaxrl watch`: what it reads of a run that grows, is cut by a resume, and is finished; by hand-written files."""

import json
import os
import subprocess
import time

import pytest
from rich.console import Console

from jaxrl.cli import main as cli
from jaxrl.show import watch, watchers
from tests.command_line import command, flags, jaxrl_cli, wait_for
from tests.directories import config, write_config

pytestmark = pytest.mark.usefixtures("keep_platform")


def row(iteration, seed, value, **more):
    return {"iteration": iteration, "seed": seed, "env_steps": 100 * (iteration + 1), "episode_return": value,
            "episodes": 1, "loss": 0.5, "diverged": False, **more}  # fmt: skip


def append(path, rows):
    with open(path, "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def run(tmp_path):
    """A run of seeds 0 and 1, 950 steps of 100 an iteration, after two iterations."""
    write_config(tmp_path, "run")
    append(tmp_path / "metrics.jsonl", [row(i, s, 10.0 * i + s) for i in (0, 1) for s in (0, 1)])
    append(tmp_path / "timing.jsonl", [{"env_steps": 100, "iterations": 1, "seconds": 0.5},
                                       {"env_steps": 200, "iterations": 1, "seconds": 0.25}])  # fmt: skip
    return tmp_path


def test_what_a_look_says(run):
    look = watchers.Watcher(run).look()
    assert (look.title, look.done, look.total, look.finished) == ("dqn on CartPole-v1", 400, 2000, False)
    assert look.seconds == 0.75 and look.speed == pytest.approx(400 / 0.75)
    assert [line.curve for line in look.lines] == [[0, 10], [1, 11]] and look.lines[1].last["episode_return"] == 11


def test_what_is_new_is_taken_up_and_a_half_line_waits(run):
    watched = watchers.Watcher(run)
    watched.look()
    append(run / "metrics.jsonl", [row(2, 0, 20.0), row(2, 1, None, eval_return=7.0)])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 3, "se')
    look = watched.look()
    assert [line.curve for line in look.lines] == [[0, 10, 20], [1, 11]] and look.done == 600
    assert look.lines[1].last["eval_return"] == 7.0 and look.lines[1].last["episode_return"] == 11


@pytest.mark.parametrize("after", [1, 5], ids=["shorter than before", "longer than before"])
def test_a_resume_that_cuts_the_file_replaces_what_was_read(after, run):
    watched = watchers.Watcher(run)
    watched.look()
    (run / "metrics.jsonl").write_text("")
    append(run / "metrics.jsonl", [row(i, s, -1.0 - 10 * i) for i in range(after) for s in (0, 1)])
    look = watched.look()
    assert look.done == 200 * after
    assert look.lines[0].curve[-1] == -1.0 - 10 * (after - 1) and len(look.lines[0].curve) == after


def test_the_view_names_what_a_person_needs(run):
    console = Console(width=100, record=True, file=open(os.devnull, "w"))
    (run / "metrics.jsonl").write_text("")
    append(run / "metrics.jsonl", [row(0, 0, 1.0), row(0, 1, 2.0, diverged=True)])
    os.utime(run / "config.json", (1, 1))
    for name in ("metrics.jsonl", "timing.jsonl"):
        os.utime(run / name, (time.time() - 300, time.time() - 300))
    console.print(watch.view(watchers.Watcher(run).look()))
    text = console.export_text()
    console.file.close()
    assert "10 %" in text and "200/2,000 steps" in text and "seed 1  1 diverged" in text
    assert "no news for 5 min 0 s; if it was stopped: jaxrl resume" in text


def test_curves_in_characters():
    assert watch.spark([]) == "" and watch.spark([3.0]) == "▁" and watch.spark([0, 1, 7]) == "▁▂█"
    assert len(watch.spark(list(range(1000)))) == watch.SPARK


def test_a_run_in_progress_is_seen_from_another_process(tmp_path, capsys):
    """Its numbers appear before any checkpoint is due, and looking changes no file."""
    out = tmp_path / "live"
    process = subprocess.Popen(command(*flags("q_learning", 4_000_000), "--out", out), stderr=subprocess.DEVNULL)
    wait_for(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 0, process)
    assert cli.main(["watch", str(out), "--once"]) == 0
    printed = capsys.readouterr().out
    process.kill()
    process.wait()
    assert "q_learning on" in printed and "seed 5" in printed and "finished" not in printed and "steps/s" in printed


def test_a_sweep_by_configuration_the_best_first(tmp_path, capsys):
    out = tmp_path / "sweep"
    jaxrl_cli("sweep", "q_learning", "--env", "CliffWalking", "--preset", "none", "--seeds", 2, "--total-steps", 20_000,
              "--grid", "learning_rate=0.001,0.5", "--out", out)  # fmt: skip
    look = watchers.Watcher(out).look()
    assert look.finished and look.done == look.total == 80_000
    assert look.lines[0].label == "1  learning_rate=0.5"
    assert cli.main(["watch", str(out)]) == 0  # no terminal: one look
    assert "2 configurations × 2 seeds, 1 of 1 waves finished" in capsys.readouterr().out


def test_a_configuration_in_two_waves_is_one_line(tmp_path):
    write_config(tmp_path, "sweep", configurations=[{"gamma": 0.9}], total_steps=200)
    for seed in (0, 1):
        wave = tmp_path / "waves" / f"0-{seed}"
        write_config(wave, "wave", total_steps=200, members=[{"seed": seed, "config": 0}])
        append(wave / "metrics.jsonl", [row(i, seed, 4.0 * i + seed, config=0) for i in range(2 - seed)])
    look = watchers.Watcher(tmp_path).look()
    (line,) = look.lines
    assert (line.label, line.curve, line.share) == ("0  gamma=0.9", [0.5], 0.75)
    assert (look.done, look.total) == (300, 400)


def test_a_wave_of_a_sweep_by_configuration(tmp_path):
    """Its settings are its members'; what goes on with it is the sweep."""
    wave, settings = tmp_path / "waves" / "0-0", ((3, 0.9), (4, 0.5))
    members = [{"seed": s, "config": c, "hparams": {"gamma": gamma}} for c, gamma in settings for s in (0, 1)]
    write_config(wave, "wave", total_steps=200, members=members)
    append(wave / "metrics.jsonl", [row(0, s, 10.0 * c + s, config=c) for c in (3, 4) for s in (0, 1)])
    look = watchers.watcher(wave).look()
    assert [(line.label, line.curve) for line in look.lines] == [("4  gamma=0.5", [40.5]), ("3  gamma=0.9", [30.5])]
    assert (look.done, look.total, look.resume) == (400, 800, f"jaxrl resume {tmp_path}")


BAD = [
    ({}, "is no jaxrl directory: it has no config.json"),
    ({"config.json": "{"}, "is damaged"),
    ({"config.json": '{"jaxrl": 99, "kind": "run"}'}, "has format 99"),
    ({"config.json": '{"jaxrl_run": 2, "members": 3}'}, "was written by jaxrl 0.1"),
    ({"config.json": json.dumps(config("run", members=3))}, "is damaged: members is '3', not of type"),
    ({"sweep.json": "{}"}, "was written by jaxrl 0.1"),
    ({"config.json": json.dumps(config("run")), "metrics.jsonl": "so what\n"}, "metrics.jsonl is damaged"),
]


@pytest.mark.parametrize(("files", "message"), BAD)
def test_bad_input_is_one_line(files, message, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cli.main(["watch", str(tmp_path), "--once"]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert cli.main(["watch", str(tmp_path / "none")]) == 2
