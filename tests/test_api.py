"""api.py: training in memory is training into a directory; results as tables; one `load` for what was trained."""

import json

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.sweeps.result import RunResult, SweepResult
from tests.small import assert_trees_equal

WORDS = {"config": {"updates_per_iteration": 16}, "total_steps": 320, "preset": "none", "seeds": 2, "seed": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run, a sweep, a tuning and a population, each trained into its directory: {kind: (directory, result)}."""
    base = tmp_path_factory.mktemp("api")
    tuned = {"search": {"learning_rate": "uniform:0.1,0.9"}, "config": {"updates_per_iteration": 16}, "total_steps": 320}
    tuned |= {"preset": "none", "parallel": 2, "trials": 2, "seeds": 2, "confirm": 3, "population": 4, "rounds": 2}

    def tune(method):
        return jaxrl.tune("q_learning", "CliffWalking", method=method, **tuned, out=base / method)

    return {
        "run": (base / "run", jaxrl.train("q_learning", "CliffWalking", **WORDS, eval_every=100, out=base / "run")),
        "sweep": (
            base / "sweep",
            jaxrl.sweep("q_learning", "CliffWalking", grid={"learning_rate": [0.1, 0.5]}, **WORDS, out=base / "sweep"),
        ),
        "tuning": (base / "random", tune("random")),
        "population": (base / "pbt", tune("pbt")),
    }


def test_a_run_in_memory_is_the_run_in_a_directory(written):
    """To the bit: metrics, evaluations, final returns and states."""
    found = jaxrl.train("q_learning", "CliffWalking", **WORDS, eval_every=100)
    kept = written["run"][1]
    assert isinstance(found, RunResult) and found.seeds == kept.seeds == [3, 4]
    assert found.metrics.keys() == kept.metrics.keys() and "eval_return" in found.metrics
    for name, x in found.metrics.items():
        assert x.shape == (2, 20) and x.dtype == kept.metrics[name].dtype
        np.testing.assert_array_equal(kept.metrics[name], x, err_msg=name)
    np.testing.assert_array_equal(kept.final_return, found.final_return.astype(np.float32))
    for i in (0, 1):
        assert_trees_equal(kept.agent(i)[1], found.agent(i)[1])


def test_an_experiment_and_a_loaded_one_train_the_same(written):
    experiment = written["run"][1].plan.base
    again = jaxrl.train(experiment, seeds=2, seed=3, eval_every=100)
    np.testing.assert_array_equal(again.final_return, written["run"][1].final_return)


COLUMNS = {
    "run": ["seed", "final_return", "diverged"],
    "sweep": ["config", "learning_rate", "seed", "final_return", "diverged"],
    "population": ["member", "learning_rate", "final_return"],
}


@pytest.mark.parametrize(("kind", "rows"), [("run", 2), ("sweep", 4), ("population", 4)])
def test_a_result_is_a_table_of_equal_columns(kind, rows, written):
    result = written[kind][1]
    table = result.table()
    assert list(table) == COLUMNS[kind]
    assert {len(column) for column in table.values()} == {rows}
    assert all(type(x) in (int, float, bool) for column in table.values() for x in column)
    np.testing.assert_array_equal(table["final_return"], result.final_return.ravel())
    if kind == "sweep":
        assert table["learning_rate"] == [0.1, 0.1, 0.5, 0.5] and table["seed"] == [3, 4, 3, 4]


@pytest.mark.parametrize("kind", ["run", "sweep", "population"])
def test_pandas_takes_a_table_as_it_is(kind, written):
    pandas = pytest.importorskip("pandas")
    table = written[kind][1].table()
    frame = pandas.DataFrame(table)
    assert list(frame.columns) == list(table) and len(frame) == len(table["final_return"])
    assert frame["final_return"].mean() == pytest.approx(written[kind][1].final_return.mean())


@pytest.mark.parametrize(("kind", "members"), [("run", 2), ("sweep", 2), ("tuning", 3), ("population", 4)])
def test_load_gives_the_policies_of_what_was_trained(kind, members, written):
    """Of a sweep the best configuration's, of a tuning those of its confirmation."""
    folder, result = written[kind]
    trainer, states = jaxrl.load(str(folder))
    assert states.obs.shape[0] == members
    np.testing.assert_array_equal(states.iteration, [trainer.num_iterations] * members)
    if kind == "tuning":
        result = result.confirmation
    _, expected = result
    assert_trees_equal(states.agent, expected.agent)


@pytest.mark.parametrize(
    ("kind", "part", "members"),
    [("run", "", 2), ("sweep", "", 2), ("sweep", "waves/0-0", 4), ("tuning", "", 3), ("population", "", 4)],
)
def test_eval_takes_every_directory(kind, part, members, written, keep_platform, capsys):
    """Of a wave and of a population all members, in the order of their table."""
    folder = written[kind][0] / part
    assert cli.main(["eval", str(folder), "--episodes", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert np.shape(found["returns"]) == np.shape(found["lengths"]) == (members, 3)
    if part or kind == "population":
        loaded = jaxrl.load(folder)
        assert len(loaded.table()["final_return"]) == members == len(jax.tree.leaves(loaded.states)[0])


def test_a_wave_is_loaded_with_its_members(written):
    """Those of the sweep's configurations and seeds, with the same numbers and policies."""
    sweep, wave = written["sweep"][1], jaxrl.load(written["sweep"][0] / "waves" / "0-0")
    assert list(wave.table()) == COLUMNS["sweep"]
    pairs = list(zip(wave.table()["config"], [seed - 3 for seed in wave.seeds], strict=True))
    assert sorted(pairs) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for i, (config, seed) in enumerate(pairs):
        assert wave.final_return[i] == sweep.final_return[config, seed]
        assert_trees_equal(wave.agent(i)[1], sweep.agent(config, seed)[1])
    with pytest.raises(ValueError, match="a part of a sweep or a tuning"):
        _ = wave.sweep


def test_results_are_shown_in_a_line(written):
    for kind, (_, result) in written.items():
        assert "q_learning on CliffWalking" in repr(result) and len(repr(result)) < 160, kind
    assert repr(written["run"][1]).startswith("RunResult(q_learning on CliffWalking, 2 seed(s), final return -")
    assert "4 members, best: " in repr(written["population"][1]) and "2 trials, best: " in repr(written["tuning"][1])


def test_a_tuning_that_kept_no_policies_says_so(tmp_path):
    words = {"search": {"learning_rate": "uniform:0.1,0.9"}, "config": {"updates_per_iteration": 16}, "total_steps": 320}
    jaxrl.tune("q_learning", "CliffWalking", **words, preset="none", parallel=2, trials=2, seeds=2, confirm=0,
               method="random", out=tmp_path / "a")  # fmt: skip
    with pytest.raises(ValueError, match="a keeps no policies: it was tuned with confirm = 0"):
        jaxrl.load(tmp_path / "a")


def test_load_says_what_it_gives(written):
    loaded = {kind: jaxrl.load(folder) for kind, (folder, _) in written.items()}
    assert isinstance(loaded["run"], RunResult) and "RunResult(q_learning on CliffWalking, 2 seed(s)" in repr(loaded["run"])
    assert isinstance(loaded["sweep"], SweepResult) and isinstance(loaded["tuning"], SweepResult)
    assert_trees_equal(loaded["population"].rounds, written["population"][1].rounds)
    assert loaded["population"].best == written["population"][1].best
    np.testing.assert_array_equal(loaded["population"].final_return, written["population"][1].final_return)


@pytest.mark.parametrize("kind", ["run", "sweep", "tuning", "population"])
def test_the_best_that_nobody_kept_are_refused(kind, written):
    with pytest.raises(ValueError, match="has no policies kept by keep_best"):
        _, _ = jaxrl.load(written[kind][0], best=True)


def test_a_former_run_is_replaced_only_when_asked(written):
    with pytest.raises(ValueError, match="exists and is not empty"):
        jaxrl.train("q_learning", "CliffWalking", **WORDS, out=written["run"][0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"seeds": 0}, "seeds = 0"),
        ({"eval_every": -1}, "eval_every = -1"),
        ({"total_stps": 3}, "unknown setting of train 'total_stps'; nearest: total_steps"),
    ],
)
def test_bad_input(words, message):
    with pytest.raises(ValueError, match=message):
        jaxrl.train("q_learning", "CliffWalking", **words)
