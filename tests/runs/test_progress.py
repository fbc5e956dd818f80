"""progress.py: the rate is that of training alone; training in memory shows progress where it is asked for."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import jaxrl
from jaxrl.runs import progress
from jaxrl.sweeps import directory as sweeps
from tests.plans import STEPS, small_plan

LAST = re.compile(r"([\d,]+)/([\d,]+) steps \(100 %\)  (?:return \S+|no return yet)  ([\d,]+) steps/s a seed$")


@pytest.fixture(scope="module")
def plan():
    return small_plan(eval_every=64)


def shown(capsys):
    return capsys.readouterr().err.splitlines()


def test_the_rate_leaves_compiling_and_evaluations_out(plan, tmp_path, capsys):
    """It is that of the summary, whose `run_s` has neither; both took far longer than these few steps."""
    summary = sweeps.train(plan, tmp_path / "run")
    done, total, rate = (int(number.replace(",", "")) for number in LAST.search(shown(capsys)[-1]).groups())
    assert done == total == STEPS and summary["compile_s"] > summary["run_s"]
    assert rate == pytest.approx(STEPS / summary["run_s"], rel=1e-3)


@pytest.mark.parametrize(("asked", "terminal", "visible"), [(None, False, False), (None, True, True), (True, False, True),
                                                             (False, True, False)])  # fmt: skip
def test_training_in_memory_shows_it_on_a_terminal_or_when_asked(asked, terminal, visible, plan, monkeypatch, capsys):
    monkeypatch.setattr(sweeps, "on_terminal", lambda: terminal)
    sweeps.in_memory(plan, progress=asked)
    assert any(LAST.search(line) for line in shown(capsys)) == visible


def test_the_library_hands_on_what_was_asked(capsys):
    words = {"total_steps": STEPS, "config": {"updates_per_iteration": 16}, "preset": "none", "seeds": 2}
    jaxrl.train("q_learning", "CliffWalking", **words)
    assert shown(capsys) == []
    jaxrl.train("q_learning", "CliffWalking", **words, progress=True)
    assert LAST.search(shown(capsys)[-1])


def test_the_last_return_stays_where_no_episode_ended(capsys):
    training = SimpleNamespace(trainer=SimpleNamespace(total_steps=4, steps_per_iteration=2), env_steps=0)
    shows = progress.Progress("x")
    shows.start(training)
    for env_steps, last in ((2, 3.0), (4, np.nan)):
        chunk = SimpleNamespace(count=1, seconds=1.0, metrics={"episode_return": np.array([[last]])})
        shows.update(SimpleNamespace(chunks=[chunk], training=training, env_steps=env_steps))
    shows.close()
    assert "4/4 steps (100 %)  return 3" in shown(capsys)[-1]


def test_numbers_have_digits_by_their_size(capsys):
    with progress.Bar("x", 10) as bar:
        bar.update(10, 0.7421)
    assert "return 0.742" in shown(capsys)[-1]
