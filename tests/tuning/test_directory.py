"""A tuning's directory: one process at a time, stopped by any signal or killed, and gone on with."""

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import time

import optuna
import pytest

import jaxrl
from jaxrl.runs import directory
from jaxrl.tuning import directory as tunings
from jaxrl.tuning import studies
from tests.command_line import command, jaxrl_cli, wait_for
from tests.small import assert_trees_equal, released

TUNE = ["tune", "q_learning", "--env", "CliffWalking", "--preset", "none", "--search", "learning_rate=log:0.01,1"]
PBT = [*TUNE, "--method", "pbt", "--population", 4, "--rounds", 8, "--total-steps", 200_000]
SEARCH = [*TUNE, "--method", "random", "--parallel", 2, "--seeds", 2, "--confirm", 2]
FILES = ("rounds.jsonl", "metrics.jsonl")


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """A population that nobody stopped."""
    out = tmp_path_factory.mktemp("pbt") / "whole"
    jaxrl_cli(*PBT, "--out", out)
    return out


def assert_same_population(a, b):
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    one, other = jaxrl.load(a), jaxrl.load(b)
    assert_trees_equal(one.states, other.states)
    assert one.best == other.best and one.schedule == other.schedule


def started(words, out):
    """A process that trains into a directory, with a checkpoint after every chunk."""
    return subprocess.Popen(command(*words, "--checkpoint-every", 0), stderr=subprocess.PIPE, text=True)


def test_a_population_killed_at_random_moments_is_the_same(population, tmp_path):
    """kill -9 twice, each time after a new checkpoint, then to the end."""
    out = tmp_path / "killed"
    words = [*PBT, "--out", out]
    for _ in range(2):
        known = set(out.glob("checkpoints/[0-9]*"))
        process = started(words, out)
        wait_for(lambda: set(out.glob("checkpoints/[0-9]*")) - known, process)  # noqa: B023
        time.sleep(random.random() * 0.5)
        process.kill()
        process.communicate()
        words = ["resume", out]
    jaxrl_cli("resume", out)
    assert_same_population(population, out)


@pytest.mark.parametrize("number", [signal.SIGINT, *released(signal.SIGTERM)])
def test_a_signal_stops_a_population_which_goes_on_to_the_same_end(number, population, tmp_path):
    out = tmp_path / "stopped"
    process = started([*PBT, "--out", out], out)
    wait_for(lambda: list(out.glob("checkpoints/[0-9]*")), process)
    process.send_signal(number)
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number and not (out / "summary.json").exists()
    assert printed.splitlines()[-1].endswith(f"go on with: jaxrl resume {out}")
    jaxrl_cli("resume", out)
    assert_same_population(population, out)


def told(out):
    """{number: (state, parameters, value)} of the trials that were told."""
    with studies.quiet(), contextlib.suppress(KeyError, ValueError):
        (study,) = optuna.get_all_study_names(studies.storage_of(out))
        trials = optuna.load_study(study_name=study, storage=studies.storage_of(out)).trials
        return {t.number: (t.state.name, t.params, t.value) for t in trials if t.state.name == "COMPLETE"}
    return {}


def number_told(out):
    """How many trials are complete, read without Optuna: it makes the tables of a file that its writer has just begun."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True)) as study,
    ):
        return study.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    return 0


@pytest.mark.parametrize("number", [*released(signal.SIGINT), signal.SIGTERM])
def test_a_signal_stops_a_tuning_which_keeps_what_was_told(number, tmp_path):
    """Stopped in its second batch or later: told trials stay as they are, the others are tried anew, up to as many."""
    out = tmp_path / "stopped"
    process = subprocess.Popen(command(*SEARCH, "--trials", 6, "--total-steps", 100_000, "--out", out),
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    wait_for(lambda: number_told(out), process)
    process.send_signal(number)
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, printed
    assert printed.splitlines()[-1].endswith(f"go on with: jaxrl resume {out}")
    before = told(out)
    assert 2 <= len(before) < 6 and not (out / "summary.json").exists()
    jaxrl_cli("resume", out)
    after = told(out)
    assert len(after) == 6 and {number: after[number] for number in before} == before
    summary = json.loads((out / "summary.json").read_text())
    assert summary["value"] == max(value for _, _, value in after.values())


@pytest.mark.parametrize("method", ["random", "pbt"])
def test_one_process_at_a_time_tunes_into_a_directory(method, tmp_path, monkeypatch):
    """The lock is of the open file, so that this process stands for another; nothing is changed under it."""
    out = tmp_path / "taken"
    words = {"search": {"learning_rate": "log:0.01,1"}, "total_steps": 1000, "preset": "none", "trials": 2, "seeds": 1}
    words |= {"parallel": 2, "confirm": 0, "population": 2, "rounds": 1, "method": method}
    jaxrl.tune("q_learning", "CliffWalking", **words, out=out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    plan = tunings.read(out)
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.2)
    with directory.held(out):
        for work in (lambda: tunings.resume(out), lambda: tunings.train(plan, out, overwrite=True)):
            with pytest.raises(ValueError, match="taken is being trained by another process$"):
                work()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    tunings.resume(out)
