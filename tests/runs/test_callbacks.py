"""callbacks.py: who is told what and when, that it changes no number, and the two that are built in."""

import dataclasses
import json
import signal
import subprocess
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.core import loop
from jaxrl.core.errors import InputError
from jaxrl.runs import callbacks, driver, snapshot
from jaxrl.runs.callbacks import Callback
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps.waves import Options
from tests.command_line import command, jaxrl_cli
from tests.plans import ITERATIONS, PER, STEPS, Looks, Stops, small_plan, with_callbacks
from tests.small import assert_trees_equal

pytestmark = pytest.mark.usefixtures("keep_platform", "no_pictures")
EVERY = 4 * PER  # between evaluations


@pytest.fixture(scope="module")
def plan():
    return small_plan()


@pytest.fixture(scope="module")
def whole(plan):
    """The run with evaluations, and its states on the host after each, {iterations: states}."""
    looks = Looks(EVERY)
    return sweeps.in_memory(with_callbacks(plan, eval_every=EVERY), [looks]), looks.states


def kept_steps(result):
    return result.metrics["env_steps"][0, 0].tolist()


def test_an_object_with_only_update_gets_every_row(plan, whole):
    class Only:
        def __init__(self):
            self.rows = []

        def update(self, event):
            self.rows += event.rows

    only = Only()
    result = sweeps.in_memory(plan, [only])
    assert [(row["iteration"], row["seed"]) for row in only.rows] == [(i, s) for i in range(ITERATIONS) for s in (0, 1)]
    for name in ("episode_return", "env_steps"):
        found = np.array([row[name] for row in only.rows], np.float32).reshape(ITERATIONS, 2).T
        np.testing.assert_array_equal(found, result.metrics[name][0])
        np.testing.assert_array_equal(found, whole[0].metrics[name][0])


@pytest.mark.parametrize("seconds", [0.0, 100.0], ids=["chunks of one", "chunks as long as can be"])
def test_every_comes_at_the_same_iterations_whatever_the_chunks(seconds, plan, monkeypatch):
    """The first iteration that reaches a multiple of 50 steps: 50 / 16 = 3.1, 6.25, 9.4, 12.5, 15.6, 18.75, rounded up."""
    monkeypatch.setattr(driver, "CHUNK_SECONDS", seconds)
    looks, others = Looks(50), Looks()
    sweeps.in_memory(plan, [looks, others])
    assert looks.told == [4, 7, 10, 13, 16, 19] and looks.counts == [4, 3, 3, 3, 3, 3] and looks.left == 1
    for done, states in looks.states.items():
        np.testing.assert_array_equal(states.iteration, [done] * 2)
    assert (max(others.counts) == 1) == (seconds == 0)


def test_the_state_is_there_where_it_was_wanted_and_nowhere_else(plan, monkeypatch):
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)
    readable = {}

    class Wants:
        def wants_state(self, done):
            return done % 3 == 0

        def update(self, event):
            try:
                readable[event.env_steps // PER] = int(event.state().iteration[0])
            except RuntimeError as error:
                assert "wants_state" in str(error)
                readable[event.env_steps // PER] = None

    sweeps.in_memory(plan, [Wants()])
    expected = {done: done if done % 3 == 0 else None for done in range(1, ITERATIONS)}
    assert readable == expected | {ITERATIONS: ITERATIONS}  # the last one: nothing else was begun


@pytest.mark.parametrize("eval_every", [0, PER], ids=["beside who wants the state", "beside evaluations"])
def test_every_callback_is_asked_whether_it_wants_the_state(eval_every, plan, tmp_path, monkeypatch):
    """Else checkpoints would wait until nobody else stops the chunks."""
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)
    saved = []

    class Counts(Callback):
        def update(self, event):
            saved.append(len(list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))))

    sweeps.train(with_callbacks(plan, eval_every=eval_every), tmp_path / "run", Options(0.0, callbacks=(Counts(),)))
    assert saved[:4] == [0, 1, 2, 2]


def test_a_stop_ends_the_run_and_is_recorded(plan, whole, tmp_path):
    """After the 7th of 20 iterations; up to there all numbers are those of the run that went on, bit for bit."""
    out, looks = tmp_path / "run", Looks(PER)
    summary = sweeps.train(plan, out, Options(callbacks=(looks, Stops(7))))
    assert summary["stopped"] == "7 are enough" == json.loads((out / "summary.json").read_text())["stopped"]
    assert summary["env_steps"] == 2 * 7 * PER and looks.told[-1] == 7
    found = snapshot.restore(
        dataclasses.replace(plan.program_list[0].waves(0)[0], path=out), plan.program_list[0].compiled.trainer
    )
    assert (found.meta["iteration"], found.meta["stopped"]) == (7, "7 are enough")
    stopped = jaxrl.load(out)
    for name, x in stopped.metrics.items():
        np.testing.assert_array_equal(x, whole[0].metrics[name][0, :, :7], err_msg=name)
    again = Looks(PER)
    sweeps.in_memory(plan, [again])
    assert_trees_equal(looks.states[7], again.states[7])
    before = (out / "metrics.jsonl").read_bytes()
    assert sweeps.resume(out)["stopped"] == "7 are enough" and (out / "metrics.jsonl").read_bytes() == before


def test_a_run_that_was_stopped_goes_on_when_it_is_extended(plan, tmp_path):
    out = tmp_path / "run"
    sweeps.train(plan, out, Options(callbacks=(Stops(7),)))
    before = (out / "metrics.jsonl").read_bytes()
    summary = sweeps.resume(out, total_steps=2 * STEPS)
    assert "stopped" not in summary and summary["env_steps"] == 2 * 2 * STEPS
    assert (out / "metrics.jsonl").read_bytes().startswith(before)


@pytest.mark.parametrize("method", ["start", "update", "leave", "finish"])
def test_a_callback_that_raises_closes_the_others(method, plan):
    closed = []

    class Open:
        def update(self, event):
            pass

        def close(self):
            closed.append(True)

    def fails(*_):
        raise ZeroDivisionError

    raises = type("Raises", (Callback,), {method: fails})()
    with pytest.raises(ZeroDivisionError):
        sweeps.in_memory(plan, [Open(), raises])
    assert closed == [True]


@pytest.mark.parametrize(("value", "steps"), [(-1e9, EVERY), (1e9, STEPS)])
def test_stop_at_return_looks_at_evaluations(value, steps, plan):
    """A return that any policy reaches: the first evaluation; one that none does: never."""
    result = sweeps.in_memory(with_callbacks(plan, f"stop_at_return({value})", eval_every=EVERY))
    assert kept_steps(result)[-1] == steps
    assert ("stopped" in result.waves[0].summary) == (steps < STEPS)


def test_keep_best_keeps_the_best_evaluations_policy_of_each_seed(plan, whole, tmp_path, capsys):
    """By the returns of all five evaluations and the states after them; of equal ones the first."""
    result, states = whole
    sweeps.train(with_callbacks(plan, "keep_best", eval_every=EVERY), tmp_path / "run")
    evaluated = result.metrics["eval_return"][0]
    returns = evaluated[:, np.isfinite(evaluated[0])]
    best = returns.argmax(1)
    assert returns.shape == (2, 5) and (best < 4).any()  # not merely the last ones
    trainer, kept = jaxrl.load(tmp_path / "run", best=True)
    for seed, number in enumerate(best):
        expected = jax.tree.map(lambda x, i=seed: x[i], states[4 * (int(number) + 1)])
        assert_trees_equal(jaxrl.member(kept, seed).agent, expected.agent)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    np.testing.assert_array_equal(np.array(summary["best_return"], np.float32), returns.max(1))
    assert cli.main(["eval", str(tmp_path / "run"), "--best", "--episodes", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["returns"]
    for seed in (0, 1):
        state = jaxrl.member(kept, seed)
        key = loop.stream(state.key, loop.EVALUATE, 0)
        np.testing.assert_allclose(found[seed], jaxrl.evaluate(trainer, state, key, episodes=4).returns, rtol=1e-6)


DIES = """
import os
import pathlib
import signal


class Dies:
    every = 700

    def __init__(self, steps, mark):
        self.steps, self.mark = steps, pathlib.Path(mark)

    def update(self, event):
        if event.env_steps >= self.steps and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_kept_survives_a_kill(tmp_path):
    """kill -9 between two evaluations, with a checkpoint of a while before; resumed, the best are those of a whole run."""
    (tmp_path / "dies.py").write_text(DIES)
    words = ["train", "q_learning", "--env", "CliffWalking", "--preset", "none", "--seeds", "2", "--total-steps", "8000",
             "--eval-every", "1000", "--keep-best"]  # fmt: skip
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert cli.main([*words, "--out", str(whole)]) == 0
    callback = f"{tmp_path / 'dies.py'}:Dies(5000, {str(tmp_path / 'mark')!r})"
    process = subprocess.run(command(*words, "--out", killed, "--callback", callback, "--checkpoint-every", 0))
    assert process.returncode == -signal.SIGKILL and (killed / "best").is_dir() and not (killed / "summary.json").exists()
    jaxrl_cli("resume", killed)
    best = [json.loads((out / "summary.json").read_text())["best_return"] for out in (killed, whole)]
    assert best[0] == best[1]
    assert_trees_equal(jaxrl.load(killed, best=True).agent(0)[1], jaxrl.load(whole, best=True).agent(0)[1])
    assert_trees_equal(jaxrl.load(killed, best=True).agent(1)[1], jaxrl.load(whole, best=True).agent(1)[1])


def test_policies_that_nobody_kept_are_asked_for(plan, tmp_path, capsys):
    sweeps.train(plan, tmp_path / "run")
    assert cli.main(["eval", str(tmp_path / "run"), "--best"]) == 2
    assert "run has no policies kept by keep_best" in capsys.readouterr().err


OWN = """
class Enough:
    every = 500

    def __init__(self, steps, reason="enough"):
        self.steps, self.reason = steps, reason

    def update(self, event):
        if event.env_steps >= self.steps:
            event.stop(self.reason)


class Fails:
    def update(self, event):
        raise KeyError("no such metric")


class Nothing:
    pass
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_callback_of_a_file_is_recorded_and_takes_part_in_a_resume(own, tmp_path, capsys):
    """It stops after 1,000 steps, and so it does again once the run was made longer."""
    out, name = tmp_path / "out", f"{own}:Enough(1000, 'seen')"
    words = ["train", "q_learning", "--env", "CliffWalking", "--total-steps", "4000", "--out", str(out), "--json"]
    assert cli.main([*words, "--callback", name]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["stopped"] == "seen" and 1000 <= summary["env_steps"] < 4000
    assert json.loads((out / "config.json").read_text())["callbacks"] == [name]
    assert cli.main(["resume", str(out), "--total-steps", "8000"]) == 0
    printed = capsys.readouterr().out
    assert "stopped: seen" in printed
    assert len((out / "metrics.jsonl").read_text().splitlines()) * 500 < 4000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--stop-at-return", "5"],
            "callback 'stop_at_return(5)' needs evaluations in training: give eval_every (--eval-every)",
        ),
        (["--keep-best"], "callback 'keep_best' needs evaluations in training"),
        (["--callback", "keep_bset"], "unknown callback 'keep_bset'; nearest: keep_best"),
        (["--callback", "{own}:Enough(1, 2, 3)"], "too many positional arguments"),
        (["--callback", "{own}:Enough(1"], "must look like name or name(1, low=2.5, x='text')"),
        (["--callback", "{own}:Enuogh(1)"], "Enuogh"),
        (["--callback", "{own}:Nothing"], "has none of a callback's methods: start, update, leave, finish"),
    ],
)
def test_what_is_no_callback_is_one_line_before_any_compile(words, message, own, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jaxrl.devices.programs.Programs.chunk", property(lambda self: pytest.fail("compiled")))
    out = tmp_path / "out"
    given = [word.replace("{own}", str(own)) for word in words]
    assert cli.main(["train", "q_learning", "--env", "CliffWalking", "--out", str(out), *given]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1 and not out.exists()


def test_what_a_callback_of_a_file_raises_is_one_line_that_says_where(own, tmp_path, capsys):
    words = ["train", "q_learning", "--env", "CliffWalking", "--total-steps", "4000", "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--callback", f"{own}:Fails"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"jaxrl: error: update of callback {own}:Fails raises KeyError: 'no such metric' ({own}, line 15)"


def test_the_library_refuses_objects_that_need_evaluations():
    with pytest.raises(ValueError, match="needs evaluations in training"):
        jaxrl.train("q_learning", "CliffWalking", callbacks=[callbacks.KeepBest()])


def test_early_stopping_counts_evaluations_without_a_new_best(tmp_path):
    """Means over two seeds 1, 2, 2, 1.5: the fourth is the second in a row that is no better. An equal one is none."""
    stopped = []

    def seen(callback, *returns):
        for value in returns:
            evaluation = {"eval_return": np.array([value - 1, value + 1])}
            callback.update(SimpleNamespace(evaluation=evaluation, stop=stopped.append))
            callback.update(SimpleNamespace(evaluation={}, stop=stopped.append))  # nothing is evaluated between
        return len(stopped)

    callback = callbacks.make("stop_early(2)")
    callback.start(SimpleNamespace(wave=SimpleNamespace(path=None), done=0))
    assert [seen(callback, value) for value in (1.0, 2.0, 2.0, 1.5)] == [0, 0, 0, 1]
    assert stopped == ["no better than 2 in 2 evaluations"]

    # A process that goes on after 30 steps has seen what metrics.jsonl says up to there, and nothing later.
    rows = [
        {"iteration": i, "seed": s, "env_steps": 10 * (i + 1), "episodes": 1, "diverged": False, "eval_return": value + s}
        for i, value in enumerate((1.0, 2.0, 1.5, 9.0))
        for s in (0, 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    callback = callbacks.make("stop_early(2)")
    callback.start(SimpleNamespace(wave=SimpleNamespace(path=tmp_path), done=3, env_steps=30))
    assert (callback.best, callback.waited) == (2.5, 1)
    with pytest.raises(InputError, match="patience = 0 must be >= 1"):
        callbacks.make("stop_early(0)")
