"""Training, validation and test levels: what a run evaluates where, and what it says of the gap.

The toy's return is -(level - target)²: target 3 in training, 4 in validation, 2 in the test; the agent's level stays as set.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from benchmarks.harness import browser
from jaxrl.cli import main as cli
from jaxrl.cli import output
from jaxrl.show.report import contents, sources
from tests import toys
from tests.extras import needs_browser

pytestmark = pytest.mark.usefixtures("keep_platform", "no_pictures")

TARGETS = {"train": 3, "validation": 4, "test": 2}
LEVELS = [4.5, 2.5, 9.0]  # best in validation, best in training and the test, best in nothing
TOYS = Path(toys.__file__)
WORDS = {"total_steps": 1000, "preset": "none"}


def by_hand(level):
    return {split: -((level - target) ** 2) for split, target in TARGETS.items()}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("levels") / "sweep"
    base = jaxrl.Experiment(f"{TOYS}:Level", f"{TOYS}:split_env", **WORDS)
    return jaxrl.sweep(base, grid={"level": LEVELS}, seeds=3, eval_every=500, out=out), out


def test_evaluations_in_training_are_on_validation_levels(swept):
    evaluated = swept[0].metrics["eval_return"]
    for found, level in zip(evaluated, LEVELS, strict=True):
        np.testing.assert_allclose(found[np.isfinite(found)], by_hand(level)["validation"], rtol=1e-5)
    assert np.isfinite(evaluated).any((1, 2)).all()
    trained = swept[0].metrics["episode_return"][:, :, -1]
    np.testing.assert_allclose(trained, [[by_hand(level)["train"]] * 3 for level in LEVELS], rtol=1e-5)


def test_the_final_return_is_of_the_test_levels_and_the_choice_of_the_validation_ones(swept):
    result, out = swept
    for split in TARGETS:
        expected = [[by_hand(level)[split]] * 3 for level in LEVELS]
        np.testing.assert_allclose(result.splits[split], expected, rtol=1e-5)
    np.testing.assert_array_equal(result.final_return, result.splits["test"])
    assert result.best() == 0 and result.final_return.mean(1).argmax() == 1
    summary = json.loads((out / "summary.json").read_text())
    np.testing.assert_array_equal(summary["splits"]["validation"], result.splits["validation"])


def test_a_wave_says_the_gap_of_each_member(swept):
    found = json.loads((swept[1] / "waves" / "0-0" / "summary.json").read_text())
    assert found["final_return"] == found["splits"]["test"]
    gaps = [by_hand(level)["train"] - by_hand(level)["test"] for level in LEVELS for _ in range(3)]
    np.testing.assert_allclose(found["generalization_gap"]["per_seed"], gaps, rtol=1e-5)
    gap = found["generalization_gap"]
    assert gap["mean"] == pytest.approx(np.mean(gaps), rel=1e-5) and gap["ci_low"] < gap["mean"] < gap["ci_high"]


def test_the_report_shows_each_split(swept):
    series = contents.of([sources.read(swept[1])])["series"]
    for one, level in zip(series, LEVELS, strict=True):
        expected = by_hand(level)
        expected["gap"] = expected["train"] - expected["test"]
        found = {name: numbers["mean"] for name, numbers in one["splits"].items()}
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("split", [None, *TARGETS])
def test_eval_plays_the_levels_that_are_asked_for(split, swept, capsys):
    """Of the configuration that is best in validation."""
    words = ["eval", str(swept[1]), "--episodes", "4"] + (["--split", split] if split else [])
    expected = by_hand(LEVELS[0])[split or "test"]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["split"] == (split or "test") and found["mean"] == pytest.approx(expected, rel=1e-5)


def test_the_command_line_says_it_in_one_line(swept, capsys):
    """Of a sweep in a column, the best in validation first."""
    summary = json.loads((swept[1] / "waves" / "0-0" / "summary.json").read_text())
    output.finish(lambda: summary | {"out": "nowhere", "diverged": []}, as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("levels")]
    assert line.startswith("levels: train -12.8, validation -9.2, test -18.5; generalisation gap 5.67, 95 % [")
    output.finish(lambda: json.loads((swept[1] / "summary.json").read_text()), as_json=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:5]]
    assert rows[0][-2:] == ["gap", "settings"] and [row[0] for row in rows[1:]] == ["0", "1", "2"]
    gaps = [by_hand(level)["train"] - by_hand(level)["test"] for level in LEVELS]
    assert [float(row[-2]) for row in rows[1:]] == pytest.approx(gaps, abs=1e-3)


def test_a_run_without_levels_says_nothing_of_them():
    found = jaxrl.train(toys.Level, toys.level_env(), hparams={"level": 4}, **WORDS)
    assert found.splits == {} and not {"splits", "generalization_gap"} & set(found.summary)
    trainer, state = found.agent()
    with pytest.raises(ValueError, match="^Level has no levels to tell apart \\(EnvSpec.splits\\), so no split 'test'"):
        jaxrl.evaluate(trainer, state, jax.random.key(0), 4, split="test")


def test_evaluate_plays_a_split():
    found = jaxrl.train(toys.Level, toys.split_env(), hparams={"level": 4}, **WORDS)
    assert {split: float(x[0]) for split, x in found.splits.items()} == pytest.approx(
        {"train": -1, "validation": 0, "test": -4}
    )
    trainer, state = found.agent()
    for split, target in (TARGETS | {None: 3}).items():
        returns = jaxrl.evaluate(trainer, state, jax.random.key(0), 4, split=split).returns
        np.testing.assert_allclose(returns, [-((4 - target) ** 2)] * 4, atol=1e-5)
    with pytest.raises(ValueError, match="^unknown split 'valid'; nearest: validation"):
        jaxrl.evaluate(trainer, state, jax.random.key(0), 4, split="valid")


def test_tunings_choose_by_validation_levels():
    """The value of a trial is that of its validation levels; that of a population's best member of the test's."""
    words = {"total_steps": 1000, "search": {"level": [2.0, 3.0, 4.0]}, "trials": 12, "method": "random", "seeds": 1}
    found = jaxrl.tune(toys.Level, toys.split_env(), **words, parallel=12, confirm=0)
    assert found.best == {"level": 4.0} and found.value == pytest.approx(0, abs=1e-5)
    words = {"total_steps": 1000, "search": {"level": "uniform:1,5"}, "method": "pbt", "population": 8, "rounds": 1}
    found = jaxrl.tune(toys.Level, toys.split_env(), **words)
    levels = found.rounds.hparams["level"][-1]
    assert found.best_member == np.abs(levels - 4).argmin() != np.abs(levels - 2).argmin()
    assert found.value == pytest.approx(-((levels[found.best_member] - 2) ** 2), rel=1e-4)


def test_the_page_draws_a_bar_for_each_split(swept, tmp_path):
    needs_browser()
    assert cli.main(["report", str(swept[1]), "--out", str(tmp_path / "r.html")]) == 0
    script = "return document.getElementById('level-chart').data.map((t) => [t.name, t.y])"
    with browser.opened(tmp_path / "r.html") as driver:
        drawn = dict(driver.execute_script(script))
        rows = [row.text for row in driver.find_elements("css selector", "#level-table tbody tr")]
        assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    best_in_test = sorted(LEVELS, key=lambda level: -by_hand(level)["test"])
    assert drawn == {split: pytest.approx([by_hand(level)[split] for level in best_in_test], rel=1e-4) for split in TARGETS}
    assert len(rows) == 3 and "level=9" in rows[-1] and "13.0" in rows[-1]
