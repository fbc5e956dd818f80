"""datasets/minari.py: Minari's HDF5 layout, as h5py sees it."""

import json
import sys

import numpy as np
import pytest

from jaxrl import datasets
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.datasets import minari
from tests import recorded


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "data").mkdir()
    (tmp_path / minari.FILE).write_bytes(b"")
    for call in (
        lambda: datasets.read(tmp_path),
        lambda: datasets.write(tmp_path / "x", recorded.mixed([1]), format="minari"),
    ):
        with pytest.raises(InputError, match=r"^datasets of Minari need the extra: pip install 'jaxrl\[minari\]'$"):
            call()
    assert not (tmp_path / "x").exists()


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def test_what_is_written_is_read_bit_for_bit(h5py, tmp_path):
    for name, data in (("plain", recorded.counting([3, 1] * 6)), ("mixed", recorded.mixed([4, 1, 3]))):
        datasets.write(tmp_path / name, data, format="minari")
        recorded.assert_same(datasets.read(tmp_path / name), data)


def test_the_file_has_minaris_groups(h5py, tmp_path):
    datasets.write(tmp_path, recorded.mixed([4, 1]), format="minari")
    with h5py.File(tmp_path / "data/main_data.hdf5") as file:
        assert set(file) == {"episode_0", "episode_1"}
        assert set(file["episode_0"]) == {"observations", "actions", "rewards", "terminations", "truncations"}
        assert file["episode_0/observations/place/_index_1"].shape == (5, 2)
        assert file["episode_0/actions/push"].shape == (4,) and dict(file["episode_1"].attrs) == {"id": 1, "total_steps": 1}
    metadata = json.loads((tmp_path / "data/metadata.json").read_text())
    assert (metadata["total_steps"], metadata["total_episodes"], metadata["data_format"]) == (5, 2, "hdf5")
    assert json.loads(metadata["action_space"])["subspaces"]["push"]["low"] == -2.0


def theirs(h5py, folder, space='{"type": "Discrete", "dtype": "int64", "start": 0, "n": 2}', **more):
    """A dataset as Minari writes it: float64 observations, int64 actions, and an episode that nothing says has ended."""
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for i in (0, 1, 10, 2):
            arrays = {
                "observations": np.full((3, 1), i / 3), "actions": np.array([0, 1]), "rewards": np.array([1.0, 0.1]),
                "terminations": np.array([False, i == 0]), "truncations": np.zeros(2, bool),
            } | more  # fmt: skip
            for name, x in arrays.items():
                file.create_dataset(f"episode_{i}/{name}", data=x)
    box = '{"type": "Box", "dtype": "float64", "shape": [1], "low": [-Infinity], "high": [Infinity]}'
    said = {"observation_space": box, "action_space": space, "env_spec": '{"id": "Walk-v3"}', "algorithm_name": "SAC"}
    (folder / "data/metadata.json").write_text(json.dumps({"data_format": "hdf5"} | said))


def test_a_dataset_of_minaris_own(h5py, tmp_path):
    theirs(h5py, tmp_path / "a")
    data = datasets.read(tmp_path / "a")
    assert (data.info.env, data.info.agent) == ("Walk-v3", "SAC")
    assert data.info.observation_space == Box((1,)) and data.info.action_space == Discrete(2)
    np.testing.assert_array_equal(data.obs[:, 0], np.float32([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 10 / 3, 10 / 3]))
    np.testing.assert_array_equal(data.truncated, [False, False] + [False, True] * 3)  # cut without a flag
    assert data.action.dtype == np.int32 and data.reward.dtype == np.float32


def test_older_datasets_say_their_spaces_in_the_file(h5py, tmp_path):
    theirs(h5py, tmp_path)
    said = json.loads((tmp_path / "data/metadata.json").read_text())
    (tmp_path / "data/metadata.json").unlink()
    with pytest.raises(InputError, match="says no observation_space"):
        datasets.read(tmp_path)
    with h5py.File(tmp_path / "data/main_data.hdf5", "a") as file:
        file.attrs.update(said)
    assert datasets.read(tmp_path).info.env == "Walk-v3"


def test_damage_is_one_line(h5py, tmp_path):
    datasets.write(tmp_path / "a", recorded.mixed([4, 1]), format="minari")
    path = tmp_path / "a/data/main_data.hdf5"
    path.write_bytes(path.read_bytes()[:600])
    theirs(h5py, tmp_path / "b", rewards=np.zeros(3))
    theirs(h5py, tmp_path / "c", observations=np.zeros((3, 2)))
    theirs(h5py, tmp_path / "d", space='{"type": "Discrete", "n": 2, "start": 1}')
    for name, said in (("a", "is damaged"), ("b", "no equal numbers"), ("c", r"shape \[2\] is none of"), ("d", "supported")):
        with pytest.raises(InputError, match=said) as error:
            datasets.read(tmp_path / name)
        assert "\n" not in str(error.value)


def test_minari_itself_reads_what_we_write(h5py, tmp_path):
    library = pytest.importorskip("minari")
    data = recorded.mixed([4, 1, 3])
    datasets.write(tmp_path, data, format="minari")
    found = library.MinariDataset(tmp_path / "data")
    assert (found.total_steps, found.total_episodes) == (8, 3)
    for ours, theirs in zip(data.episodes(), found, strict=True):
        np.testing.assert_array_equal(theirs.observations["place"][1], ours.obs["place"][1])
        np.testing.assert_array_equal(theirs.actions["push"], ours.action["push"])
        np.testing.assert_array_equal(theirs.rewards, ours.reward)
