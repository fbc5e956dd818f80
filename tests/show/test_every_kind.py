"""`jaxrl watch`, `jaxrl plot` and `jaxrl report` take a directory of any kind: run, sweep, wave, tuning, population."""

import json

import pytest
from PIL import Image

from jaxrl.cli import main as cli
from jaxrl.show.report import contents, sources
from tests.command_line import jaxrl_cli

pytestmark = pytest.mark.usefixtures("keep_platform")

LAKE = ["q_learning", "--env", "FrozenLake-misc", "--preset", "none", "--total-steps", 1000]
RATE = ["--search", "learning_rate=log:0.01,0.5"]
KINDS = {
    "run": ["train", *LAKE, "--seeds", 3, "--eval-every", 500],
    "sweep": ["sweep", *LAKE, "--seeds", 2, "--grid", "learning_rate=0.1,0.5"],
    "tuning": ["tune", *LAKE, *RATE, "--trials", 3, "--parallel", 3, "--seeds", 1, "--confirm", 2],
    "population": ["tune", *LAKE, *RATE, "--method", "pbt", "--population", 4, "--rounds", 2],
}
FOLDERS = {"wave": "sweep/waves/0-0"}
PICTURES = {
    "run": ["curve.png", "values.png"],
    "sweep": ["curves.png", "effects.png"],
    "wave": ["curves.png"],
    "tuning": ["trials.png"],
    "population": ["trials.png"],
}
FIRST = dict.fromkeys(PICTURES, "learning_rate=0.") | {"run": "seed 0", "population": "member 0"}


def size(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    base = tmp_path_factory.mktemp("kinds")
    for kind, words in KINDS.items():
        jaxrl_cli(*words, "--out", base / kind)
    return base


@pytest.mark.parametrize("kind", PICTURES)
def test_each_is_drawn_anew(kind, trained, capsys):
    folder = trained / FOLDERS.get(kind, kind)
    for name in PICTURES[kind]:
        (folder / name).unlink(missing_ok=True)
    assert cli.main(["plot", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in PICTURES[kind]]
    assert all(min(size(folder / name)) > 200 for name in PICTURES[kind])


@pytest.mark.parametrize("kind", PICTURES)
def test_each_is_watched(kind, trained, capsys):
    assert cli.main(["watch", str(trained / FOLDERS.get(kind, kind)), "--once"]) == 0
    printed = capsys.readouterr().out
    assert "finished" in printed and FIRST[kind] in printed and "q_learning on FrozenLake-misc" in printed


def test_a_search_is_watched_before_its_confirmation(trained, tmp_path, capsys):
    """Its trials, the best first, with the values that the study has."""
    folder = tmp_path / "searching"
    folder.mkdir()
    for name in ("config.json", "study.db"):
        (folder / name).write_bytes((trained / "tuning" / name).read_bytes())
    assert cli.main(["watch", str(folder), "--once"]) == 0
    printed = capsys.readouterr().out
    best = json.loads((trained / "tuning" / "summary.json").read_text())["best"]["learning_rate"]
    rows = [line for line in printed.splitlines() if "learning_rate" in line]
    assert "3/3 trials" in printed and len(rows) == 3 and f"learning_rate={best:.4g}" in rows[0]


def test_one_picture_compares_them_all(trained, tmp_path, capsys):
    words = [str(trained / FOLDERS.get(kind, kind)) for kind in PICTURES]
    assert cli.main(["plot", *words, "--out", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.png") and size(tmp_path / "a.png")[0] > 800
    assert cli.main(["plot", str(trained / "sweep"), "--out", str(tmp_path / "effects.png")]) == 2


def test_a_report_shows_them_all(trained):
    found = contents.of([sources.read(trained / FOLDERS.get(kind, kind)) for kind in PICTURES])
    assert [source["kind"] for source in found["sources"]] == ["run", "sweep", "wave", "sweep", "population"]
    assert [len(source["pictures"]) for source in found["sources"]] == [0, 0, 0, 1, 1]
    labels = [one["label"] for one in found["series"]]
    assert len(labels) == 1 + 2 + 2 + 2 + 4 and len(set(labels)) == len(labels)
