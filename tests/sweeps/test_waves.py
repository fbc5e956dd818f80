"""Waves are found in a sweep's directory, whatever laid them out: the plan, or a machine with other devices."""

import json
import shutil

import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.devices.layout import Layout
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import resolve
from jaxrl.runs import directory
from jaxrl.runs.driver import Stop
from jaxrl.runs.wave import Wave
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import reading, waves
from tests.small import assert_trees_equal

pytestmark = pytest.mark.usefixtures("keep_platform")

GRID = {"learning_rate": [0.1, 0.5], "num_envs": [1, 2]}


@pytest.fixture(scope="module")
def whole():
    return jaxrl.sweep("q_learning", "CliffWalking", grid=GRID, seeds=3, total_steps=2000, preset="none")


def create(plan, out):
    directory.create(out, plan.to_json() | directory.about())


@pytest.fixture
def begun(tmp_path):
    """A plan and its directory: 3 of the 12 members, out of order, are trained as a wave of width 4 on one device."""
    base = resolve("q_learning", "CliffWalking", total_steps=2000, preset="none")
    plan = plans.make(base, *search_space.configurations(base, GRID, {}, 0, 0)[:1], 3, 0)
    out = tmp_path / "sweep"
    create(plan, out)
    program = plan.program_list[1]
    some = tuple(program.members[i] for i in (4, 0, 3))
    wave = Wave(program.experiment, some, Layout(3, 1, 4), 0, 1, waves.new_path(out, 1, []))
    waves.finish(plan, wave, waves.DEFAULTS, Stop())
    return plan, out


@pytest.mark.exact
def test_a_wave_of_another_layout_is_kept_and_the_rest_is_cut_by_the_plan(whole, begun):
    plan, out = begun
    done = (out / "waves" / "1-0" / "summary.json").stat().st_mtime_ns
    assert [len(members) for members in waves.missing(plan, waves.found(plan, out))] == [6, 3]
    sweeps.resume(out)
    assert sorted(path.name for path in (out / "waves").iterdir()) == ["0-0", "1-0", "1-1"]
    assert (out / "waves" / "1-0" / "summary.json").stat().st_mtime_ns == done
    result = reading.load(out)
    for name, x in whole.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], x, err_msg=name)
    for member in np.ndindex(4, 3):
        assert_trees_equal(result.agent(*member)[1], whole.agent(*member)[1])


def test_a_sweep_with_members_in_no_wave_says_how_to_go_on(begun):
    with pytest.raises(ValueError, match="9 members of .* are in no wave yet; go on with: jaxrl resume"):
        reading.load(begun[1])


def test_what_was_killed_before_it_was_made_leaves_its_number_free(begun):
    plan, out = begun
    (out / "waves" / "1-1").mkdir()
    (out / "waves" / "1-1" / "config.json.tmp").touch()
    assert [wave.path.name for wave in waves.planned(plan, out)] == ["1-0", "0-0", "1-1"]


def test_one_process_at_a_time_trains_a_sweep(begun, monkeypatch):
    plan, out = begun
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.2)
    with directory.held(out):
        for work in (lambda: sweeps.resume(out), lambda: sweeps.train(plan, out, overwrite=True)):
            with pytest.raises(ValueError, match="sweep is being trained by another process$"):
                work()
    assert [wave.path.name for wave in waves.found(plan, out)] == ["1-0"]


def test_what_no_machine_has_planned_yet_is_planned_by_the_one_that_goes_on(whole, tmp_path):
    """A plan that was made for other machines: nothing compiled, its layouts open."""
    base = resolve("q_learning", "CliffWalking", total_steps=2000, preset="none")
    settings, _ = search_space.configurations(base, GRID, {}, 0, 0)
    plan = plans.make(base, settings, 3, 0, fit=False)
    assert plan.bytes is None and "2 programs" in plan.lines()[0] and len(plan.lines()) == 4
    create(plan, tmp_path / "sweep")
    assert reading.devices(tmp_path / "sweep") == 1
    sweeps.resume(tmp_path / "sweep")
    np.testing.assert_array_equal(reading.load(tmp_path / "sweep").final_return, whole.final_return)


def lay_over(out, devices):
    """Say of wave 1-0 that it was laid over so many devices."""
    path = out / "waves" / "1-0" / "config.json"
    values = json.loads(path.read_text())
    values["program"] = {"form": "vmap", "devices": devices, "width": devices}
    path.write_text(json.dumps(values))


def test_a_wave_of_more_devices_than_are_here_is_read_but_not_gone_on_with(begun, capsys):
    _, out = begun
    sweeps.resume(out)
    lay_over(out, 8)
    assert cli.main(["eval", str(out), "--episodes", "2"]) == 0
    assert sweeps.resume(out)["env_steps"] > 0
    (out / "waves" / "1-0" / "summary.json").unlink()
    capsys.readouterr()
    assert cli.main(["resume", str(out)]) == 2
    printed = capsys.readouterr().err
    assert "ran on 8 devices, here are 2" in printed and printed.count("\n") == 1


def twice(out):
    shutil.copytree(out / "waves" / "1-0", out / "waves" / "1-7")


def elsewhere(out):
    (out / "waves" / "1-0").rename(out / "waves" / "0-0")


def nowhere(out):
    (out / "waves" / "1-0").rename(out / "waves" / "2-0")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (twice, "1-0 and .*1-7 hold the same members; remove one of them"),
        (elsewhere, "0-0 is damaged: its program has no member"),
        (nowhere, "2-0 is damaged: the sweep has no program 2"),
    ],
)
def test_waves_that_cannot_be_are_refused(harm, message, begun):
    harm(begun[1])
    with pytest.raises(ValueError, match=message):
        sweeps.resume(begun[1])
