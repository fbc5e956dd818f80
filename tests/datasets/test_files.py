"""Datasets on disk: bit for bit, and refused in one line where they are damaged."""

import json
import os

import numpy as np
import pytest

from jaxrl import datasets
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product
from jaxrl.datasets import shards, spaces
from tests import recorded
from tests.cli.test_damage import HOW, damage

MADE = {"plain": lambda: recorded.counting([3, 1, 2]), "mixed": lambda: recorded.mixed([4, 1, 3])}


@pytest.mark.parametrize("kind", MADE)
def test_what_is_written_is_read_bit_for_bit(kind, tmp_path):
    datasets.write(tmp_path / "new" / "data", MADE[kind]())
    recorded.assert_same(datasets.read(tmp_path / "new" / "data"), MADE[kind]())


def test_several_shards_are_one_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 40)
    said = datasets.write_episodes(tmp_path, MADE["plain"]().info, recorded.counting([3, 1, 2, 5]).episodes())
    assert len([*tmp_path.glob("shard-*.npz")]) == 3
    assert said == {"steps": 11, "episodes": 4, "mean_return": (3 + 100 + 401 + 1510) / 4}
    recorded.assert_same(datasets.read(tmp_path), recorded.counting([3, 1, 2, 5]))


def test_the_documents_digests_are_the_files(tmp_path):
    import subprocess

    datasets.write(tmp_path, MADE["plain"]())
    index = json.loads((tmp_path / "dataset.json").read_text())
    (shard,) = index["shards"]
    said = subprocess.run(["sha256sum", tmp_path / shard["file"]], capture_output=True, text=True).stdout.split()[0]
    assert shard["sha256"] == said and (index["dataset"], index["steps"], index["episodes"]) == (1, 6, 3)
    assert index["observation_space"] == {"type": "Discrete", "dtype": "int64", "start": 0, "n": 1000}


def test_the_same_dataset_has_the_same_bytes(tmp_path):
    for name in "ab":
        datasets.write(tmp_path / name, MADE["mixed"]())
    a, b = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert a == b


def test_a_dataset_is_replaced_only_when_asked_and_leaves_nothing(tmp_path):
    datasets.write(tmp_path, MADE["mixed"]())
    with pytest.raises(InputError, match="holds a dataset; give another folder, or overwrite it"):
        datasets.write(tmp_path, MADE["plain"]())
    recorded.assert_same(datasets.read(tmp_path), MADE["mixed"]())
    datasets.write(tmp_path, MADE["plain"](), overwrite=True)
    recorded.assert_same(datasets.read(tmp_path), MADE["plain"]())
    assert len([*tmp_path.iterdir()]) == 2


def test_a_writer_that_is_cut_leaves_the_former_dataset(tmp_path, monkeypatch):
    """And what it left behind is no hindrance."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 60)

    def some():
        yield from recorded.counting([3, 1, 2]).episodes()
        raise KeyboardInterrupt

    for folder, overwrite in ((tmp_path / "new", False), (tmp_path / "old", True)):
        if overwrite:
            datasets.write(folder, MADE["mixed"]())
        with pytest.raises(KeyboardInterrupt):
            datasets.write_episodes(folder, MADE["plain"]().info, some(), overwrite=overwrite)
        assert [*folder.glob("shard-*")]
    recorded.assert_same(datasets.read(tmp_path / "old"), MADE["mixed"]())
    with pytest.raises(InputError, match="is no dataset"):
        datasets.read(tmp_path / "new")
    datasets.write(tmp_path / "new", MADE["plain"]())
    recorded.assert_same(datasets.read(tmp_path / "new"), MADE["plain"]())


def test_what_is_not_ours_is_never_written_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty, and no dataset"):
        datasets.write(tmp_path, MADE["plain"](), overwrite=True)
    with pytest.raises(InputError, match="is a file; give a folder"):
        datasets.write(tmp_path / "thesis.txt", MADE["plain"]())
    with pytest.raises(InputError, match="format = 'hdf5' is not one of npz, minari"):
        datasets.write(tmp_path / "new", MADE["plain"](), format="hdf5")
    with pytest.raises(InputError, match="there are no episodes to write"):
        datasets.write_episodes(tmp_path / "new", MADE["plain"]().info, [])


@pytest.mark.parametrize("file", ["dataset.json", "shard"])
@pytest.mark.parametrize("how", HOW)
def test_damage_is_one_line(file, how, tmp_path):
    datasets.write(tmp_path, MADE["mixed"]())
    (shard,) = tmp_path.glob("shard-*")
    damage(tmp_path / "dataset.json" if file == "dataset.json" else shard, how) if how != "gone" else os.remove(
        tmp_path / "dataset.json" if file == "dataset.json" else shard
    )
    with pytest.raises(InputError, match="is damaged|cannot be read|is no dataset") as error:
        datasets.read(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": 2}, "has format 2, which this version of jaxrl does not know"),
        ({"dataset": None}, "has format None"),
        ({"steps": 7}, "its shards have not the steps or episodes that it says"),
        ({"steps": "many"}, "has no steps, or one that is no int"),
        ({"shards": []}, "its shards are not listed"),
        ({"shards": [{"file": "../../etc/passwd", "sha256": "0"}]}, "is no shard's name"),
        ({"action_space": {"type": "Discrete", "n": "x"}}, "action_space is damaged"),
        ({"action_space": {"type": "Text"}}, "action_space: .*Text.* is not supported"),
        ({"action_space": {"type": "Discrete", "n": 3, "start": 1}}, "is not supported; jaxrl takes Box, integers from 0"),
        ({"observation_space": {"type": "Box", "dtype": "float32", "shape": [2], "low": None, "high": None}},
         r"obs is int32\[9\], not float32\[9, 2\]"),
    ],
)  # fmt: skip
def test_a_document_that_says_what_is_not_so(change, said, tmp_path):
    datasets.write(tmp_path, MADE["plain"]())
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said):
        datasets.read(tmp_path)


def test_a_folder_that_holds_no_dataset(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        datasets.read(tmp_path / "none")
    with pytest.raises(InputError, match=r"is no dataset: it has neither dataset.json nor Minari's data/main_data.hdf5"):
        datasets.read(tmp_path)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "space",
    [
        Discrete(3),
        MultiDiscrete((2, 5)),
        Box((2,)),
        Box((2,), (-1.0, -np.inf), (np.inf, 3.5)),
        Box((2, 2), 0.0, ((1.0, 2.0), (3.0, 4.0))),
        Box((3, 2, 1), 0, 255, np.dtype("uint8")),
        Box((), -1.0, 1.0),
        Product((Discrete(2), Product.of(b=Discrete(3), a=Box((0,))))),
    ],
)
def test_spaces_are_read_as_they_were_written(space, whole):
    again = spaces.from_json(json.loads(json.dumps(spaces.to_json(space, whole))), "here")
    assert spaces.to_json(again) == spaces.to_json(space) and not spaces.difference(again, space)
