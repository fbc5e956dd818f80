"""The benchmarks' own program: its commands, and which differences it calls real."""

import json

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import compare, report


def write(path, rows):
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_welchs_interval_by_hand():
    """(1, 2, 3) -> (11, 12, 13): variances 1, standard error √(2/3), 4 degrees of freedom, t = 2.776: 10 ± 2.267."""
    found = compare.difference("w", "f", [1, 2, 3], [11, 12, 13])
    np.testing.assert_allclose([found.old, found.new, found.low, found.high], [2, 12, 10 - 2.267, 10 + 2.267], atol=1e-3)
    assert found.outside_noise and not compare.difference("w", "f", [1, 2, 3], [2, 3, 4]).outside_noise
    same = compare.difference("w", "f", [500.0, 500.0], [500.0, 500.0])
    assert (same.low, same.high, same.outside_noise) == (0, 0, False)
    assert compare.difference("w", "f", [500.0, 500.0], [499.0, 499.0]).outside_noise


def test_noise_is_called_noise():
    """Of 400 pairs of equal groups about one in twenty is called changed."""
    rng = np.random.default_rng(0)
    called = [compare.difference("w", "f", *rng.normal(10, 1, (2, 5)).tolist()).outside_noise for _ in range(400)]
    assert 0.02 < np.mean(called) < 0.08


def test_rows_of_the_same_work_are_compared(tmp_path, capsys):
    rounds = {"jaxrl": [100.0, 101.0, 102.0], "rejax": [50.0, 51.0, 50.5]}
    old = [
        {"work": "PPO", "seeds": 1, "rounds": rounds, "ratio": 2.0},
        {"work": "PPO", "seeds": 8, "runs_s": [3, 4, 5], "ci": [1, 2]},
        {"name": "gone", "per_seed": [1, 2]},
    ]
    new = [
        {"work": "PPO", "seeds": 8, "runs_s": [3, 4, 5]},
        {"work": "PPO", "seeds": 1, "rounds": rounds | {"jaxrl": [200.0, 201.0, 202.0]}},
    ]
    assert program.main(["compare", str(write(tmp_path / "a.json", old)), str(write(tmp_path / "b.json", new))]) == 0
    changed, *rest = capsys.readouterr().out.splitlines()
    assert changed.startswith("CHANGED PPO, 1 seeds, rounds jaxrl: 101 -> 201 1.99×")
    assert [line[:30].strip() for line in rest[:2]] == ["same    PPO, 1 seeds, rounds r", "same    PPO, 8 seeds, runs_s:"]
    assert rest[2:] == [f"only in {tmp_path / 'a.json'}: gone"]


def test_every_benchmark_is_listed(capsys):
    assert program.main(["list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(program.NAMES)


def test_readme_says_what_the_result_files_say():
    assert report.filled(report.README.read_text(), report.read()) == report.README.read_text()


def test_a_new_figure_comes_into_readme():
    """Another mean of one row changes that row of the table and nothing else."""
    results = report.read()
    results["learning"] = [row | {"mean": 123.4} if row["name"].startswith("a2c") else row for row in results["learning"]]
    before, after = report.README.read_text().split("\n"), report.filled(report.README.read_text(), results).split("\n")
    (changed,) = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed.startswith("| a2c |") and "| 123.4 [" in changed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "unknown command ''"),
        (["rnu"], "unknown command 'rnu'; nearest: run"),
        (["run"], "usage:"),
        (["run", "sped"], "unknown benchmark 'sped'; nearest: speed"),
        (["compare", "a.json"], "usage:"),
        (["compare", "none.json", "none.json"], "no result file none.json"),
        (["compare", "README.md", "README.md"], "README.md is no result file"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    assert program.main(words) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
