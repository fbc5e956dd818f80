"""sinks.py: TensorBoard's event files and W&B's offline logs, read back and set beside the run's own files. No network."""

import importlib.util
import json
import subprocess
import sys

import pytest
from PIL import Image

from jaxrl.cli import main as cli
from jaxrl.core.errors import InputError
from jaxrl.runs import directory as folders
from jaxrl.runs import documents, metrics, sinks
from tests import event_files

STEPS = 2000
RUN = ["train", "q_learning", "--env", "RandomGame", "--total-steps", STEPS, "--seed", 3, "--seeds", 2]
SWEEP = [
    "sweep",
    "q_learning",
    "--env",
    "RandomGame",
    "--total-steps",
    STEPS,
    "--seeds",
    2,
    "--grid",
    "learning_rate=0.1,0.2",
]
OWN = {"iteration", "config", "seed", "env_steps"}  # what names a row


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """W&B writes its files and says little."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def command(*words):
    words = [sys.executable, "-W", "error::UserWarning", "-m", "jaxrl", *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two seeds with both sinks, whose evaluations come every 1,000 steps."""
    out = tmp_path_factory.mktemp("sinks") / "both"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        command(*RUN, "--eval-every", 1000, "--out", out, "--tensorboard", "--wandb", "games")
    return out


def expected(directory, **label):
    """{(step, name): number} of a member's rows, with its final return at the last."""
    rows = [row for row in metrics.read(directory / "metrics.jsonl") if label.items() <= row.items()]
    numbers = {(r["env_steps"], k): float(v) for r in rows for k, v in r.items() if k not in OWN and v is not None}
    summary = json.loads((directory / "summary.json").read_text())
    members = [m.label for m in folders.read_members(directory)[0]]
    return numbers | {(rows[-1]["env_steps"], "final_return"): summary["final_return"]["per_seed"][members.index(label)]}


def logged(path):
    """{(step, name): value} of a .wandb file's history, and how many numbers it holds."""
    found, count = {}, 0
    for history in (r.history for r in event_files.wandb(path) if r.WhichOneof("record_type") == "history"):
        values = {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in history.item}
        scalars = {(values["_step"], k): v for k, v in values.items() if k[0] != "_" and "." not in k}
        found, count = found | scalars, count + len(scalars)
    assert len(found) == count, "a number was logged twice"
    return found


def wandb_run(path):
    """The run record of a .wandb file, and its configuration."""
    (record,) = [r.run for r in event_files.wandb(path) if r.WhichOneof("record_type") == "run"]
    return record, {u.key: json.loads(u.value_json) for u in record.config.update if u.key != "_wandb"}


def logs(directory):
    """The .wandb files of a directory by their run's id."""
    return {wandb_run(path)[0].run_id: path for path in sorted(directory.rglob("*.wandb"))}


def own_config(directory, hparams=None, **label):
    values = documents.read_config(directory)
    values["hparams"].update(hparams or {})
    return {k: v for k, v in values.items() if k != "members"} | {"member": label}


@pytest.mark.parametrize("seed", [3, 4])
def test_tensorboard_has_every_number_and_the_configuration(run, seed):
    events = event_files.tensorboard(run / "tensorboard" / f"seed_{seed}")
    found = event_files.scalars(events)
    assert {(step, tag): value for step, tag, value in found} == pytest.approx(expected(run, seed=seed), rel=1e-6)
    assert len({(step, tag) for step, tag, _ in found}) == len(found)
    (text,) = [v.tensor.string_val[0] for e in events for v in e.summary.value if v.tag.startswith("config/")]
    assert json.loads(text) == own_config(run, seed=seed)
    plugins = {v.metadata.plugin_data.plugin_name for e in events for v in e.summary.value}
    assert {"hparams", "text"} <= plugins


def test_tensorboard_fills_the_tab_of_hyper_parameters(run):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    events = event_files.tensorboard(run / "tensorboard" / "seed_3")
    parts = {v.tag: v.metadata.plugin_data.content for e in events for v in e.summary.value if v.tag.startswith("_hparams_")}
    begin = HParamsPluginData.FromString(parts["_hparams_/session_start_info"]).session_start_info
    config = documents.read_config(run)
    assert begin.hparams["learning_rate"].number_value == config["hparams"]["learning_rate"]
    assert begin.hparams["num_envs"].number_value == config["config"]["num_envs"]
    assert begin.hparams["seed"].number_value == 3 and begin.hparams["agent"].string_value == "q_learning"
    experiment = HParamsPluginData.FromString(parts["_hparams_/experiment"]).experiment
    assert [m.name.tag for m in experiment.metric_infos] == ["final_return"]


def test_tensorboard_shows_the_pictures_and_plays_the_policy(run):
    """They are the very files, beside the first member alone."""
    images = {
        seed: {
            v.tag: v.image for e in event_files.tensorboard(run / "tensorboard" / f"seed_{seed}") for v in e.summary.value
        }
        for seed in (3, 4)
    }
    for name in ("curve.png", "values.png", "policy.gif"):
        found = images[3][name.partition(".")[0]]
        assert found.encoded_image_string == (run / name).read_bytes()
        with Image.open(run / name) as picture:
            assert (found.width, found.height) == picture.size
    assert not {"curve", "values", "policy"} & set(images[4])


def test_wandb_has_every_number_and_the_configuration(run):
    found = logs(run / "wandb")
    token = (run / "wandb" / "identifier").read_text()
    assert set(found) == {f"{token}-seed_3", f"{token}-seed_4"}
    for seed in (3, 4):
        path = found[f"{token}-seed_{seed}"]
        record, config = wandb_run(path)
        assert (record.project, record.run_group, record.display_name) == ("games", "both", f"both-seed_{seed}")
        assert config == own_config(run, seed=seed)
        assert logged(path) == pytest.approx(expected(run, seed=seed))
        (end,) = [r.exit for r in event_files.wandb(path) if r.WhichOneof("record_type") == "exit"]
        assert end.exit_code == 0


def test_wandb_has_the_pictures_and_the_animation(run):
    first, second = (path.parent for _, path in sorted(logs(run / "wandb").items()))
    media = {path.name.split("_")[0]: path for path in first.rglob("media/*/*")}
    assert set(media) == {"curve", "values", "policy"} and not list(second.rglob("media/*/*"))
    for name in ("curve.png", "values.png", "policy.gif"):
        assert media[name.partition(".")[0]].read_bytes() == (run / name).read_bytes()
    record = next(r for r in event_files.wandb(next(first.glob("*.wandb"))) if "policy_" in str(r.files))
    assert record.files.files[0].path.endswith(".gif")


def test_a_sweeps_members_are_told_apart(tmp_path):
    out = tmp_path / "sweep"
    command(*SWEEP, "--out", out, "--tensorboard", "--wandb", "games")
    (wave,) = (out / "waves").iterdir()
    names = [f"config_{c}_seed_{s}" for c in (0, 1) for s in (0, 1)]
    assert sorted(p.name for p in (wave / "tensorboard").iterdir()) == names
    found = {run_id.partition("-")[2]: path for run_id, path in logs(wave).items()}
    assert sorted(found) == names
    for name, path in found.items():
        config, seed = int(name[7]), int(name[-1])
        record, values = wandb_run(path)
        assert (record.run_group, record.display_name) == ("sweep", f"sweep-{name}")
        assert values == own_config(wave, {"learning_rate": [0.1, 0.2][config]}, config=config, seed=seed)
        numbers = expected(wave, config=config, seed=seed)
        assert logged(path) == pytest.approx(numbers)
        events = event_files.scalars(event_files.tensorboard(wave / "tensorboard" / name))
        assert {(step, tag): value for step, tag, value in events} == pytest.approx(numbers, rel=1e-6)


def stopped_half_way(out):
    """A finished run made one that was stopped after its second row: its newest checkpoint is that of its begin."""
    command(*RUN, "--out", out, "--tensorboard", "--wandb", "games", "--checkpoint-every", 0)
    steps = sorted((out / "checkpoints").iterdir(), key=lambda path: int(path.stem))
    steps[-1].unlink()
    (out / "summary.json").unlink()
    return int(steps[-2].stem) * 512


def test_a_resumed_run_goes_on_in_the_same_places(tmp_path):
    """The same W&B ids; TensorBoard is told where to forget, behind the checkpoint; rows after it come a second time."""
    out = tmp_path / "resumed"
    done = stopped_half_way(out)
    first = sorted((out / "wandb").glob("offline-run-*"))
    command("resume", out, "--tensorboard", "--wandb", "games")
    paths = {p.parent.name: p for p in (out / "wandb").rglob("*.wandb")}
    second = [paths[name] for name in sorted(set(paths) - {path.name for path in first})]
    token = (out / "wandb" / "identifier").read_text()
    assert [wandb_run(path)[0].run_id for path in second] == [f"{token}-seed_3", f"{token}-seed_4"]
    numbers = expected(out, seed=3)
    assert logged(second[0]) == pytest.approx({at: value for at, value in numbers.items() if at[0] > done})
    events = event_files.tensorboard(out / "tensorboard" / "seed_3")
    (restart,) = [i for i, event in enumerate(events) if event.HasField("session_log")]
    assert events[restart].step == done + 1
    kept = [(s, t, v) for s, t, v in event_files.scalars(events[:restart]) if s <= done]
    found = kept + event_files.scalars(events[restart:])
    assert {(step, tag): value for step, tag, value in found} == pytest.approx(numbers, rel=1e-6)
    assert len(found) == len(numbers)


def test_overwriting_removes_them_and_begins_anew(tmp_path, run):
    import shutil

    out = shutil.copytree(run, tmp_path / "again")
    before = (out / "wandb" / "identifier").read_text()
    folders.clear(out)
    assert not list(out.iterdir())
    assert sinks._identifier(out) != before


@pytest.mark.parametrize(("flag", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
@pytest.mark.parametrize("words", [RUN, SWEEP], ids=["train", "sweep"])
def test_a_missing_extra_is_named_before_anything_is_done(
    flag, package, words, tmp_path, monkeypatch, capsys, keep_platform
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("jaxrl.experiment.experiment.Experiment.trainer", lambda *_: pytest.fail("too late"))
    given = [f"--{flag}", *(["games"] if flag == "wandb" else [])]
    assert cli.main([*map(str, words), "--out", str(tmp_path / "out"), *given]) == 2
    assert capsys.readouterr().err == f"jaxrl: error: --{flag} needs the extra: pip install 'jaxrl[{flag}]'\n"
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named_by_resume(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert cli.main(["resume", str(run), "--wandb", "games"]) == 2
    assert "pip install 'jaxrl[wandb]'" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_folder_of_that_name_is_no_installed_extra(tmp_path, monkeypatch):
    """W&B leaves folders `wandb` in working directories, which Python would import."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert importlib.util.find_spec("wandb") is not None
    with pytest.raises(InputError, match="--wandb needs the extra"):
        sinks.require(False, "games")


def test_a_project_needs_a_name():
    with pytest.raises(InputError, match="--wandb needs the name of a project"):
        sinks.require(False, "")


def test_what_wandb_refuses_is_one_line(tmp_path, monkeypatch, capfd, keep_platform):
    """A name that W&B does not take; the run itself is whole."""
    out = tmp_path / "refused"
    assert cli.main([*map(str, RUN), "--out", str(out), "--wandb", "ga/mes"]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("jaxrl: error: --wandb: ") and "ga/mes" in line
    assert len(metrics.read(out / "metrics.jsonl")) == 8 and (out / "summary.json").exists()
