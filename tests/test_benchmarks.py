"""The benchmarks' own program: its commands, and which differences it calls real."""

import importlib
import json

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks.harness import compare, processes, result_files, runner
from benchmarks.measure import learning
from benchmarks.peers import libraries
from benchmarks.readme import charts, tables
from jaxrl.runs.driver import Training
from tests.small import released


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


OFTEN = ("learning", "throughput")


@pytest.mark.parametrize("name", [*OFTEN, *released(*(name for name in program.NAMES if name not in OFTEN))])
def test_every_benchmark_runs(name, keep_platform, monkeypatch):
    """A smoke: every part gives rows, which are plain values and tell their works apart; nothing is kept."""
    monkeypatch.setattr(processes, "one_device", lambda *_: None)  # it is for a process of its own
    monkeypatch.setattr(result_files, "save", lambda *_: pytest.fail("a smoke keeps nothing"))
    module = importlib.import_module(f"benchmarks.measure.{name}")
    smokes = getattr(module, "SMOKES", module.PARTS)
    rows = runner.measure(name, smoke=True)
    assert {row.get("part", row.get("name")) for row in rows} == set(smokes)
    assert len({result_files.identity(row) for row in rows}) == len(rows)
    json.dumps(rows)
    assert all(set(row["measured"]) == {"date", "git_commit", "load"} for row in rows)


def test_a_row_takes_the_place_of_the_same_work(tmp_path, monkeypatch):
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    result_files.keep(
        "speed", [{"part": "b", "work": "w", "seeds": 1, "x": 1}, {"part": "b", "work": "w", "seeds": 8, "x": 2}], ["a", "b"]
    )
    result_files.keep("speed", [{"part": "a", "work": "w", "x": 3}], ["a", "b"])
    result_files.keep("speed", [{"part": "b", "work": "w", "seeds": 8, "x": 4}], ["a", "b"])
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert [row["x"] for row in kept["rows"]] == [3, 1, 4]
    assert {"date", "device", "processor", "versions", "git_commit"} <= set(kept)


def test_peers_take_turns_and_a_missing_one_is_said():
    """Three rounds of one that works and one that fails in its second: it is not tried a third time."""
    order = []

    def works():
        order.append("works")
        return {"steps_per_s": 1.0}

    def fails():
        order.append("fails")
        if order.count("fails") == 2:
            raise libraries.Missing("overran 300 s")
        return {"steps_per_s": 2.0}

    found, missing = libraries.in_turn({"works": works, "fails": fails}, 3)
    assert order == ["works", "fails", "works", "fails", "works"]
    assert missing == {"fails": "overran 300 s"} and len(found["works"]) == 3 and len(found["fails"]) == 1


def test_a_peer_that_hangs_or_breaks_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "HOME", tmp_path)
    monkeypatch.setattr(libraries, "SCRIPTS", tmp_path)
    (tmp_path / "rejax" / "bin").mkdir(parents=True)
    (tmp_path / "rejax" / "installed").touch()
    (tmp_path / "rejax" / "bin" / "python").symlink_to("/bin/sh")
    (tmp_path / "rejax_peer.py").write_text("exit 3")
    with pytest.raises(libraries.Missing, match="failed with exit code 3"):
        libraries.run("rejax", "ppo")
    (tmp_path / "rejax_peer.py").write_text("sleep 60")
    monkeypatch.setattr(processes, "TIME_LIMIT", 0.2)
    with pytest.raises(libraries.Missing, match="overran"):
        libraries.run("rejax", "ppo")
    (tmp_path / "rejax_peer.py").write_text('echo "{\\"steps_per_s\\": 5}"')
    monkeypatch.setattr(processes, "TIME_LIMIT", 20.0)
    assert libraries.run("rejax", "ppo") == {"steps_per_s": 5}


def test_what_is_measured_apart_is_measured_in_another_process():
    assert processes.apart(False, result_files.identity, {"work": "w", "seeds": 2}) == "w, 2 seeds"


def test_curves_overlap_where_their_intervals_do():
    old = {"low": [0.0, 1.0, 2.0, None], "high": [1.0, 2.0, 3.0, None]}
    new = {"low": [0.5, 2.5, 0.0, 1.0], "high": [0.9, 3.0, 2.0, 2.0]}
    assert compare.overlap(old, new) == (2, 3)


def test_charts_are_drawn_from_rows(tmp_path, monkeypatch):
    """What the lines show: time a member as a share of one alone, thousands of steps/s, seconds; means of curves."""
    drawn = []
    monkeypatch.setattr(charts.plot, "save", lambda fig, out: drawn.append([ax.lines for ax in fig.axes]))
    rows = [
        {"part": "members", "work": "PPO CartPole-v1", "members": 1, "seconds_per_member": 2.0},
        {"part": "members", "work": "PPO CartPole-v1", "members": 4, "seconds_per_member": 0.5},
        {"part": "envs", "work": "PPO", "num_envs": 16, "steps_per_s": 9000},
        {"part": "devices", "work": "PPO", "devices": 1, "seconds": 3.0},
        {"part": "devices", "work": "PPO", "devices": 2, "seconds": 1.5},
    ]
    charts.scaling(rows, tmp_path / "a.png")
    curve = {"env_steps": [10, 20, 30], "mean": [None, 2.0, 3.0], "low": [None, 1.0, 2.0], "high": [None, 3.0, 4.0]}
    rows = [{"name": "dqn CartPole-v1 (preset)", "curve": curve}, {"name": "dqn Acrobot-v1", "curve": curve}]
    charts.curves(rows, tmp_path / "b.png")
    (members, envs, devices), ((one,),) = drawn
    found = [[line.get_xydata().tolist() for line in lines] for lines in (members, envs, devices)]
    assert found == [[[[1, 1], [4, 0.25]]], [[[16, 9]]], [[[1, 3], [2, 1.5]]]]
    np.testing.assert_array_equal(one.get_xydata(), [[10, np.nan], [20, 2], [30, 3]])
    assert one.get_label() == "dqn"


def test_a_curve_by_hand(monkeypatch):
    """Two seeds, four iterations, two points: episodes weigh alike; a part in which a seed ended none has no mean."""
    monkeypatch.setattr(learning, "POINTS", 2)
    metrics = {
        "episode_return": np.array([[1.0, 4.0, np.nan, 8.0], [10.0, np.nan, np.nan, np.nan]]),
        "episodes": np.array([[2, 1, 0, 1], [3, 0, 0, 0]]),
        "env_steps": np.array([[10, 20, 30, 40]] * 2),
    }
    found = learning.curve(metrics)
    assert found["env_steps"] == [20, 40] and found["mean"] == [(2 + 10) / 2, None]
    assert found["low"] == [2, None] and found["high"] == [10, None]


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_pages_say_what_the_result_files_say(page):
    assert tables.filled(page.read_text(), tables.PAGES[page], tables.read()) == page.read_text()


@pytest.mark.parametrize(("page", "row"), [(tables.BENCHMARKS, "| a2c |"), (tables.README, "| td3 |")])
def test_a_new_figure_comes_into_the_pages(page, row):
    """Another mean of one measurement changes its row of the table and nothing else."""
    results, agent = tables.read(), row.strip("| ")
    results["learning"] = [r | {"mean": 123.4} if r["name"].startswith(agent) else r for r in results["learning"]]
    before, after = page.read_text(), tables.filled(page.read_text(), tables.PAGES[page], results)
    (changed,) = [new for old, new in zip(before.split("\n"), after.split("\n"), strict=True) if old != new]
    assert changed.startswith(row) and "| 123.4 [" in changed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "unknown command ''"),
        (["rnu"], "unknown command 'rnu'; nearest: run"),
        (["run"], "usage:"),
        (["run", "swep"], "unknown benchmark 'swep'; nearest: sweeps"),
        (["run", "gpu"], "no accelerator is here"),
        (["run", "memory", "plna"], "unknown part of memory 'plna'; nearest: plan"),
        (["compare", "a.json"], "usage:"),
        (["compare", "none.json", "none.json"], "no result file none.json"),
        (["compare", "README.md", "README.md"], "README.md is no result file"),
    ],
)
def test_bad_input_is_one_line(words, message, keep_platform, capsys):
    assert program.main(words) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_a_measurement_that_was_stopped_goes_on_in_its_folder(tmp_path, monkeypatch, no_pictures, keep_platform):
    """To the row of one that was not; measured again it is read."""
    monkeypatch.setattr(learning, "LONG", tmp_path)
    work = {
        "agent": "q_learning",
        "env": "CliffWalking",
        "must": "report",
        "seeds": 2,
        "total_steps": 4000,
        "preset": "none",
    }
    whole, advance = learning.returns(**work), Training.advance

    def stopped(self):
        advance(self, 3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Training, "advance", stopped)
        learning.returns(**work, folder="long")
    rows = [learning.returns(**work, folder="long") for _ in range(2)]
    for row in rows:
        assert {**row, "seconds": 0} == {**whole, "seconds": 0}
