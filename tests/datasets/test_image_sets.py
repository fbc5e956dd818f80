"""datasets/image_sets.py: digits and folders of images, split alike for every label."""

import numpy as np
import pytest

from jaxrl import datasets
from jaxrl.core.errors import InputError


def put(path, images, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=images, labels=labels)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    found, theirs = datasets.images("digits"), load_digits()
    np.testing.assert_array_equal(found.images[..., 0], theirs.images)
    np.testing.assert_array_equal(found.labels, theirs.target)
    assert (found.images.dtype, found.images.max(), found.levels, found.num_labels) == (np.uint8, 16, 16, 10)


def test_a_split_has_its_share_of_every_label():
    found = datasets.images("digits")
    parts, again = found.split(), found.split()
    counts = np.array([np.bincount(part.labels, minlength=10) for part in parts])
    np.testing.assert_array_equal(counts.sum(0), np.bincount(found.labels))
    np.testing.assert_allclose(counts / counts.sum(0), np.array([[0.8], [0.1], [0.1]]) * np.ones((1, 10)), atol=0.006)
    for a, b in zip(parts, again, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    together = np.concatenate([part.images.reshape(len(part), -1) for part in parts])
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(found.images.reshape(len(found), -1), axis=0))
    assert {x.tobytes() for x in parts[0].images}.isdisjoint(x.tobytes() for x in parts[2].images)


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    first, second = np.zeros((2, 4, 5), np.uint8), np.full((3, 4, 5), 200, np.uint8)
    put(tmp_path / "b.npz", second, np.array([1, 2, 1], np.int64))
    put(tmp_path / "a.npz", first, np.array([0, 0], np.uint8))
    found = datasets.images(tmp_path)
    assert found.images.shape == (5, 4, 5, 1) and found.num_labels == 3 and found.levels == 255
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 2, 1])
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], [0, 0, 200, 200, 200])
    with pytest.raises(InputError, match="has 2 images of label 0: a split takes 3 or more of each"):
        found.split()


GOOD = (np.zeros((2, 4, 5), np.uint8), np.zeros(2, np.int32))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (GOOD[0].astype(np.float32), GOOD[1], "images are float32"),
        (GOOD[0][0], GOOD[1], r"images are uint8\[4, 5\]"),
        (GOOD[0], np.zeros(3, np.int32), "labels are int32"),
        (GOOD[0], np.array([0, -1]), "labels are int64"),
        (GOOD[0], np.array([0.0, 1.0]), "labels are float64"),
        (GOOD[0], np.array([None, 1], object), "is damaged"),
    ],
)
def test_a_file_of_something_else(images, labels, said, tmp_path):
    put(tmp_path / "a.npz", images, labels)
    with pytest.raises(InputError, match=said) as error:
        datasets.images(tmp_path)
    assert "\n" not in str(error.value)


def test_folders_of_something_else(tmp_path):
    with pytest.raises(InputError, match="no images digit: neither a folder nor a name; nearest: digits"):
        datasets.images("digit")
    with pytest.raises(InputError, match="has no .npz files"):
        datasets.images(tmp_path)
    put(tmp_path / "a.npz", *GOOD)
    put(tmp_path / "b.npz", GOOD[0][:, :2], GOOD[1])
    with pytest.raises(InputError, match="images of different shapes"):
        datasets.images(tmp_path)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(InputError, match="b.npz is damaged"):
        datasets.images(tmp_path)
    np.savez(tmp_path / "b.npz", pictures=GOOD[0])
    with pytest.raises(InputError, match="no arrays called images and labels"):
        datasets.images(tmp_path)
