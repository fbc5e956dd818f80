"""Checkpoints whose files are damaged in any way are passed over with a warning; what is no damage is not called that."""

import shutil

import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.runs.checkpoint import Checkpoints

STATE = {"a": np.arange(1000, dtype=np.float32), "b": np.arange(10, dtype=np.int32)}
DAMAGES = {
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :],
    "emptied": lambda data: b"",
    "another": lambda data: b"\xff\x00{",
    "removed": None,
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A directory with the checkpoints of iterations 4 and 5."""
    directory = tmp_path_factory.mktemp("checkpoints")
    for iteration in (4, 5):
        Checkpoints(directory).save(iteration, STATE, {"iteration": iteration})
    return directory


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax's other reads of a failed one
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_warned_of_and_the_one_before_is_read(damage, two, tmp_path):
    """Each of the newest checkpoint's files in turn. Some are not needed to read it: then it is read, and whole."""
    passed_over = 0
    for number, file in enumerate(p.relative_to(two) for p in (two / "5").rglob("*") if p.is_file()):
        copy = tmp_path / str(number)
        shutil.copytree(two, copy)
        if damage is None:
            (copy / file).unlink()
        elif data := (copy / file).read_bytes():
            (copy / file).write_bytes(damage(data))
        with pytest.MonkeyPatch.context() as patch:
            warned = []
            patch.setattr("warnings.warn", lambda text, *_, to=warned, **__: to.append(str(text)))
            found = Checkpoints(copy).restore(STATE)
        assert found is not None and found[1]["iteration"] == (4 if any("is damaged" in w for w in warned) else 5)
        for name in ("a", "b"):
            np.testing.assert_array_equal(found[0][name], STATE[name])
        passed_over += found[1]["iteration"] == 4
    assert passed_over >= 3


def test_all_damaged_is_refused_and_says_why(two, tmp_path):
    shutil.copytree(two, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(InputError, match="can be read") as caught:
        Checkpoints(tmp_path / "copy").restore(STATE)
    assert caught.value.__cause__ is not None


def test_a_bug_is_not_called_damage(two, monkeypatch):
    """Else intact checkpoints would be passed over, and deleted by the resumed run."""

    def bug(*_):
        raise MemoryError

    monkeypatch.setattr("jaxrl.runs.checkpoint._digest", bug)
    with pytest.raises(MemoryError):
        Checkpoints(two).restore(STATE)


def test_another_programs_checkpoint_is_refused(two):
    with pytest.warns(UserWarning, match="not float32"), pytest.raises(InputError):
        Checkpoints(two).restore({**STATE, "a": np.zeros(3, np.float32)})
