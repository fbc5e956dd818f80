"""Damaged directories: whatever lies there, a command says one line and exits with 2, or works as if nothing were wrong."""

import json
import shutil
import warnings

import pytest

import jaxrl
from jaxrl.cli import main as cli

pytestmark = pytest.mark.usefixtures("keep_platform", "no_pictures")

SMALL = {"total_steps": 2_000, "preset": "none"}
DOCUMENTS = ("config.json", "summary.json")
LINES = ("metrics.jsonl", "timing.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run, a sweep and a population, finished."""
    home = tmp_path_factory.mktemp("whole")
    jaxrl.train("q_learning", "CliffWalking", seeds=2, eval_every=1_000, out=home / "run", **SMALL)
    jaxrl.sweep("q_learning", "CliffWalking", grid={"learning_rate": [0.1, 0.5]}, seeds=2, out=home / "sweep", **SMALL)
    jaxrl.tune("q_learning", "CliffWalking", method="pbt", population=4, rounds=2, out=home / "population", **SMALL)
    return home


def damage(path, how):
    """Does to a file what a disk, a hand or another program may do."""
    content = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    elif how == "noise":
        path.write_bytes(bytes((17 * i * i + 5) % 256 for i in range(len(content))))
    elif how == "nested":
        path.write_bytes(b"[" * 100_000 + b"]" * 100_000 + b"\n")
    elif how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere")


HOW = ("cut", "empty", "zeros", "noise", "nested", "folder", "link", "gone")


def said(words, capsys):
    """The exit code and what a command printed to standard error, where a bug would be a traceback."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = cli.main([str(word) for word in words])
    return code, capsys.readouterr().err


def expect_one_line_or_success(words, capsys):
    code, printed = said(words, capsys)
    errors = [line for line in printed.splitlines() if "error" in line]
    assert code in (0, 2)
    if code == 2:
        assert len(errors) == 1 and printed.splitlines()[-1].startswith("jaxrl: error: ")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", [*DOCUMENTS, *LINES])
def test_looking_at_a_damaged_run(name, how, whole, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(whole / "run", out)
    damage(out / name, how)
    for words in (["watch", out, "--once"], ["plot", out, "--out", tmp_path / "x.png"]):
        expect_one_line_or_success(words, capsys)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "name", ["config.json", "waves/0-0/config.json", "waves/0-0/summary.json", "waves/0-0/metrics.jsonl"]
)
def test_looking_at_a_damaged_sweep(name, how, whole, tmp_path, capsys):
    out = tmp_path / "sweep"
    shutil.copytree(whole / "sweep", out)
    damage(out / name, how)
    for words in (["watch", out, "--once"], ["plot", out, "--out", tmp_path / "x.png"], ["eval", out, "--episodes", 1]):
        expect_one_line_or_success(words, capsys)


@pytest.mark.parametrize("how", ["cut", "noise", "folder"])
@pytest.mark.parametrize("name", [*DOCUMENTS, *LINES])
def test_going_on_with_a_damaged_run(name, how, whole, tmp_path, capsys):
    """A damaged file is refused, or written anew to the same bytes."""
    out = tmp_path / "run"
    shutil.copytree(whole / "run", out)
    damage(out / name, how)
    expect_one_line_or_success(["resume", out], capsys)


WRONG = {
    "run": [
        ("members", 3), ("members", []), ("members", [{"seed": "one"}]), ("members", None), ("program", []), ("seeds", -1),
        ("program", {"form": "vmap", "devices": 0, "width": 2}), ("eval_every", "often"), ("eval_every", -5),
        ("env_params", 3), ("env_kwargs", [1]), ("total_steps", "many"), ("total_steps", 10**15), ("config", {}),
        ("config", {"num_envs": "two"}), ("hparams", {"gamma": "high"}), ("agent", "nobody"), ("env", 5),
        ("kind", "nothing"), ("jaxrl", "3"), ("versions", 1), ("configurations", [[]]), ("programs", [{}]),
        ("callbacks", ["nobody"]), ("device", {}), ("bits", []),
    ],
    "sweep": [("configurations", []), ("configurations", [{"nothing": 1}]), ("programs", []), ("seeds", 0), ("seeds", 3)],
    "population": [("search", {"learning_rate": 3}), ("tuning", {"rounds": "all"}), ("tuning", {}), ("members", [])],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value"), [(k, *case) for k, cases in WRONG.items() for case in cases])
def test_wrong_values_in_config_are_named(kind, name, value, whole, tmp_path, capsys):
    out = tmp_path / kind
    shutil.copytree(whole / kind, out)
    config = json.loads((out / "config.json").read_text())
    for changed in (config | {name: value}, {key: x for key, x in config.items() if key != name}):
        (out / "config.json").write_text(json.dumps(changed))
        for words in (["watch", out, "--once"], ["plot", out, "--out", tmp_path / "x.png"], ["eval", out, "--episodes", 1]):
            expect_one_line_or_success(words, capsys)


ROWS = [
    ("metrics.jsonl", {"iteration": "one"}), ("metrics.jsonl", {"iteration": 10**9}), ("metrics.jsonl", {"iteration": -1}),
    ("metrics.jsonl", {"seed": 99}), ("metrics.jsonl", {"episode_return": "high"}), ("metrics.jsonl", {"env_steps": None}),
    ("metrics.jsonl", {"config": 3}), ("metrics.jsonl", {"episodes": [1]}), ("timing.jsonl", {"seconds": "long"}),
    ("timing.jsonl", {"env_steps": None}), ("timing.jsonl", {"iterations": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), ROWS)
def test_rows_of_another_shape(name, change, whole, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(whole / "run", out)
    lines = (out / name).read_text().splitlines()
    lines[len(lines) // 2] = json.dumps(json.loads(lines[len(lines) // 2]) | change)
    (out / name).write_text("\n".join(lines) + "\n")
    for words in (["watch", out, "--once"], ["plot", out, "--out", tmp_path / "x.png"]):
        expect_one_line_or_success(words, capsys)


def test_directories_of_an_earlier_version_are_refused_by_name(tmp_path, capsys):
    for name, text in (("config.json", '{"jaxrl_run": 2}'), ("sweep.json", "{}"), ("tune.json", "{}")):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text(text)
        for words in (["resume", out], ["eval", out], ["plot", out], ["report", out], ["watch", out, "--once"]):
            code, printed = said(words, capsys)
            assert code == 2 and "was written by jaxrl 0.1" in printed and printed.count("\n") == 1


def test_control_characters_of_a_directory_are_shown_not_sent(whole, tmp_path, capsys):
    out = tmp_path / "a\x1b[31mred"
    shutil.copytree(whole / "run", out)
    assert cli.main(["watch", str(out), "--once"]) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
    assert cli.main(["watch", str(tmp_path / "b\x1b[31m"), "--once"]) == 2
    assert "\x1b" not in capsys.readouterr().err
