"""Training past the end, `jaxrl resume DIR --total-steps N`, and config.json edited by hand instead."""

import contextlib
import fcntl
import json
import shutil

import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main as cli
from jaxrl.experiment.experiment import resolve
from jaxrl.runs import directory, documents
from jaxrl.show.report import contents, sources
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps import plan as plans
from tests.plans import PER, STEPS, small_plan
from tests.small import released

pytestmark = pytest.mark.usefixtures("keep_platform", "no_pictures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run and a sweep of two programs, each trained to its end."""
    base = tmp_path_factory.mktemp("extension")
    sweeps.train(small_plan(eval_every=64), base / "run")
    experiment = resolve(
        "q_learning", "CliffWalking", total_steps=STEPS, config={"updates_per_iteration": PER}, preset="none"
    )
    sweeps.train(plans.make(experiment, [{"num_envs": 1}, {"num_envs": 2}], 2, 0), base / "sweep")
    return base


@pytest.fixture
def copy(trained, tmp_path):
    def of(kind):
        return shutil.copytree(trained / kind, tmp_path / kind)

    return of


def files(out):
    return sorted(out.rglob("metrics.jsonl"))


def edit(path, **changes):
    values = json.loads(path.read_text())
    for name, value in changes.items():
        values["hparams" if name in values["hparams"] else name] = (
            values["hparams"] | {name: value} if name in values["hparams"] else value
        )
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("kind", ["run", *released("sweep")])
def test_more_steps_go_on_where_it_ended(kind, copy, capsys):
    out = copy(kind)
    before = {path: path.read_bytes() for path in files(out)}
    assert cli.main(["resume", str(out), "--total-steps", str(2 * STEPS), "--json"]) == 0
    members = 2 if kind == "run" else 4
    assert json.loads(capsys.readouterr().out)["env_steps"] == members * 2 * STEPS
    for path, kept in before.items():
        assert path.read_bytes().startswith(kept) and len(path.read_bytes()) > len(kept)
    change = [{"from": STEPS, "to": 2 * STEPS}]
    for path in out.rglob("config.json"):
        values = json.loads(path.read_text())
        assert (values["total_steps"], values["extended"]) == (2 * STEPS, change)
    loaded = jaxrl.load(out)
    assert loaded.plan.extended == change and loaded.metrics["env_steps"].max() == 2 * STEPS
    assert np.isfinite(loaded.final_return).all()
    (shown,) = contents.of([sources.read(out)])["sources"]
    assert shown["extended"] == change
    assert cli.main(["resume", str(out), "--total-steps", str(3 * STEPS)]) == 0
    assert json.loads((out / "config.json").read_text())["extended"] == [*change, {"from": 2 * STEPS, "to": 3 * STEPS}]


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_fewer_steps_are_refused_and_as_many_change_nothing(kind, copy, capsys):
    out = copy(kind)
    before = {path: path.read_bytes() for path in [*files(out), *out.rglob("config.json")]}
    assert cli.main(["resume", str(out), "--total-steps", str(STEPS - 1)]) == 2
    printed = capsys.readouterr().err
    assert f"total_steps = {STEPS - 1} must be more than the {STEPS} that" in printed and printed.count("\n") == 1
    assert cli.main(["resume", str(out), "--total-steps", str(STEPS)]) == 0
    assert before == {path: path.read_bytes() for path in before}


def test_an_extension_that_was_cut_off_is_made_by_the_next_one(copy, monkeypatch):
    """Killed before each of the three documents: the same command again brings all of them to the new end, once."""
    out, write = copy("sweep"), documents.write
    for kept in (0, 1, 1):  # those that are written before it dies
        written = []

        def dies(path, values, kept=kept, written=written):
            if len(written) == kept:
                raise KeyboardInterrupt
            written.append(path)
            write(path, values)

        monkeypatch.setattr(documents, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            sweeps.extend(out, 2 * STEPS)
    monkeypatch.setattr(documents, "write", write)
    assert sweeps.resume(out, total_steps=2 * STEPS)["env_steps"] == 4 * 2 * STEPS
    for path in out.rglob("config.json"):
        assert json.loads(path.read_text())["extended"] == [{"from": STEPS, "to": 2 * STEPS}]


def is_free(path):
    """Whether another process could hold a directory by its config.json."""
    with open(path, "r+") as opened, contextlib.suppress(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_nobody_trains_there_while_it_is_extended(kind, copy, monkeypatch):
    """config.json, which carries the lock, is replaced: last, when nothing else is left to change."""
    out, write, free = copy(kind), documents.write, []

    def looks(path, values):
        free.append(is_free(out / "config.json"))
        write(path, values)

    monkeypatch.setattr(documents, "write", looks)
    sweeps.extend(out, 2 * STEPS)
    assert free == [False] * (1 if kind == "run" else 3)


def test_what_another_process_trains_is_not_extended(copy, monkeypatch):
    out = copy("run")
    before = (out / "config.json").read_bytes()
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.2)
    with directory.held(out), pytest.raises(ValueError, match="is being trained by another process$"):
        sweeps.resume(out, total_steps=2 * STEPS)
    assert (out / "config.json").read_bytes() == before and (out / "summary.json").exists()


def test_a_lock_of_a_config_that_was_replaced_is_taken_anew(copy):
    """Whoever waited for the old file holds the new one."""
    out, opened = copy("run"), directory._open

    def replaces(path):
        found = opened(path)
        directory._open = opened
        documents.write(path, json.loads(path.read_text()))
        return found

    directory._open = replaces
    with directory.held(out):
        assert not is_free(out / "config.json")
    assert is_free(out / "config.json")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("run", {"learning_rate": 0.25}, "config.json says learning_rate = 0.25, its checkpoint was trained with 0.1"),
        ("run", {"gamma": 0.5}, "config.json says gamma = 0.5"),
        ("sweep", {"gamma": 0.5}, "config.json says gamma = 0.5"),
        ("run", {"total_steps": 4 * STEPS}, "total_steps in config.json was changed; use jaxrl resume --total-steps"),
        ("run", {"total_steps": STEPS // 2}, "total_steps in config.json was changed"),
        ("sweep", {"total_steps": 4 * STEPS}, "total_steps in config.json was changed"),
    ],
)
def test_settings_edited_by_hand_are_refused_by_name(kind, changes, message, copy, capsys):
    """By `resume` of what is unfinished, and where policies are read."""
    out = copy(kind)
    edit(out / "config.json", **changes)
    assert cli.main(["eval", str(out), "--episodes", "2"]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="config.json"):
        _, _ = jaxrl.load(out)
    for path in out.rglob("summary.json"):
        path.unlink()
    before = {path: path.read_bytes() for path in out.rglob("*.jsonl")}
    assert cli.main(["resume", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*.jsonl")}


def test_total_steps_edited_after_an_extension_are_refused_too(copy, capsys):
    out = copy("run")
    sweeps.resume(out, total_steps=2 * STEPS)
    edit(out / "config.json", total_steps=4 * STEPS)
    assert cli.main(["resume", str(out)]) == 2
    assert "total_steps in config.json was changed" in capsys.readouterr().err


def test_a_population_and_a_tuning_are_not_extended(tmp_path, capsys):
    from tests.directories import write_config

    for kind in ("tuning", "population"):
        write_config(tmp_path / kind, kind)
        assert cli.main(["resume", str(tmp_path / kind), "--total-steps", "2000"]) == 2
        assert "--total-steps is for runs and sweeps" in capsys.readouterr().err
