"""Checkpoints: what is saved comes back; damage is passed over with a warning, and nothing else is called that."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxrl.core import safetensors
from jaxrl.core.errors import InputError
from jaxrl.runs import checkpoint
from jaxrl.runs.checkpoint import Checkpoints

STATE = {"a": np.arange(1000, dtype=np.float32), "b": np.arange(10, dtype=np.int32)}
NAME = "5.safetensors"


def flipped(place):
    """One bit of the byte at that share of the file."""

    def damage(data):
        at = int(place * (len(data) - 1))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return damage


DAMAGES = {
    "truncated": lambda data: data[: len(data) // 2],
    "one_byte_less": lambda data: data[:-1],
    "one_byte_more": lambda data: data + b"\0",
    "emptied": lambda data: b"",
    "seven_bytes": lambda data: data[:7],
    "zeros": lambda data: bytes(len(data)),
    "another": lambda data: b"\xff\x00{",
    "other_digest": lambda data: data.replace(b'"sha256":"', b'"sha256":"0'),
    **{f"flipped_at_{place}": flipped(place) for place in (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.5, 1)},
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A directory with the checkpoints of iterations 4 and 5."""
    directory = tmp_path_factory.mktemp("checkpoints")
    for iteration in (4, 5):
        Checkpoints(directory).save(iteration, STATE, {"iteration": iteration})
    return directory


@pytest.fixture
def copy(two, tmp_path):
    return shutil.copytree(two, tmp_path / "copy")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_warned_of_and_the_one_before_is_read(damage, copy):
    (copy / NAME).write_bytes(damage((copy / NAME).read_bytes()))
    with pytest.warns(UserWarning, match=f"{copy / NAME} is damaged .*; trying the one before"):
        state, meta = Checkpoints(copy).restore(STATE)
    assert meta == {"iteration": 4}
    jax.tree.map(np.testing.assert_array_equal, state, STATE)


@pytest.mark.parametrize("kind", ["folder", "dangling_link"])
def test_what_is_no_file_is_passed_over(kind, copy):
    (copy / NAME).unlink()
    (copy / NAME).mkdir() if kind == "folder" else (copy / NAME).symlink_to(copy / "gone")
    with pytest.warns(UserWarning, match="is damaged"):
        assert Checkpoints(copy).restore(STATE)[1] == {"iteration": 4}


def test_all_damaged_is_refused_and_says_why(copy):
    for file in copy.iterdir():
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(InputError, match="can be read") as caught:
        Checkpoints(copy).restore(STATE)
    assert caught.value.__cause__ is not None


def test_a_bug_is_not_called_damage(two, monkeypatch):
    """Else intact checkpoints would be passed over, and deleted by the resumed run."""

    def bug(*_, **__):
        raise ValueError("a bug")

    for module, function in ((safetensors, "array"), (checkpoint, "_rebuilt")):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match="^a bug$"):
            patch.setattr(module, function, bug)
            Checkpoints(two).restore(STATE)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({**STATE, "a": np.zeros(3, np.float32)}, r"\['a'\] is float32\[1000\], here float32\[3\]"),
        ({**STATE, "a": np.zeros(1000, np.float64)}, r"\['a'\] is float32\[1000\], here float64\[1000\]"),  # x64
        ({**STATE, "b": np.zeros((4, 10), np.int32)}, r"\['b'\] is int32\[10\], here int32\[4, 10\]"),
        ({**STATE, "c": np.zeros((), np.bool_)}, r"\['c'\] is no such array, here bool\[\]"),
        ({"a": STATE["a"]}, r"\['b'\] is int32\[10\], here no such array"),
    ],
    ids=["shape", "dtype", "rank", "missing", "more"],
)
def test_another_programs_checkpoint_is_refused_as_that(template, said, two):
    """Neither damaged, nor the one before taken, nor removed."""
    said = f"^checkpoint {two / NAME} is another program's: {said}$"
    with warnings.catch_warnings(), pytest.raises(InputError, match=said):
        warnings.simplefilter("error")
        Checkpoints(two).restore(template)
    assert {path.name for path in two.iterdir()} == {"4.safetensors", NAME}


def test_keys_of_another_kind_are_refused(tmp_path):
    """Those of `rbg` are twice as long as those of `threefry2x32`."""
    Checkpoints(tmp_path).save(1, checkpoint.to_host({"key": jax.random.key(0)}), {})
    with pytest.raises(InputError, match=r"another program's: \['key'\] is uint32\[2\], here uint32\[4\]"):
        Checkpoints(tmp_path).restore(jax.eval_shape(lambda: {"key": jax.random.key(0, impl="rbg")}))


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    """Zero-size and 0-d arrays, strided ones, NaN with its payload, typed keys, names that no file could have."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2**32, 64, np.uint32)
    dtypes = [np.float16, np.float32, np.float64, np.complex64, ml_dtypes.bfloat16]
    dtypes += [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
    dtypes += [np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    state = {f"a/{np.dtype(dtype)} ü\n": noise.view(dtype) for dtype in dtypes}
    state |= {"bool": noise.astype(bool), "empty": np.zeros((0, 3), np.float32), "scalar": np.int8(-3)}
    state |= {"strided": noise[::3]}
    state |= {"transposed": noise.reshape(8, 8).T, "key": jax.random.key(7), "keys": jax.random.split(jax.random.key(1), 3)}
    Checkpoints(tmp_path).save(3, checkpoint.to_host(state), {"text": "ü", "none": None, "x": 0.1})
    found, meta = Checkpoints(tmp_path).restore(state)
    assert meta == {"text": "ü", "none": None, "x": 0.1}
    assert found["key"].dtype == state["key"].dtype
    leaves = jax.tree_util.tree_leaves_with_path(checkpoint.to_host(state))
    for (path, x), y in zip(leaves, jax.tree.leaves(checkpoint.to_host(found)), strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), path


def test_a_restored_state_can_be_donated_and_changed_and_the_file_stays(copy):
    """Its pages are the file's until they are written to."""
    state, _ = Checkpoints(copy).restore(STATE)
    assert float(jax.jit(lambda x: x + 1, donate_argnums=0)(jnp.asarray(state["a"]))[999]) == 1000
    state["b"][:] = 7
    jax.tree.map(np.testing.assert_array_equal, Checkpoints(copy).restore(STATE)[0], STATE)


def test_the_file_is_what_safetensors_describes(two):
    """By the format's description: length, JSON header, bytes without a hole, 8-byte aligned."""
    data = (two / NAME).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and all(isinstance(x, str) for x in header.pop("__metadata__").values())
    ends = sorted(place["data_offsets"] for place in header.values())
    assert ends[0][0] == 0 and ends[0][1] == ends[1][0] and 8 + length + ends[1][1] == len(data)
    first, last = header["['b']"]["data_offsets"]
    assert header["['b']"] == {"dtype": "I32", "shape": [10], "data_offsets": [first, last]}
    np.testing.assert_array_equal(np.frombuffer(data[8 + length :][first:last], "<i4"), STATE["b"])


def test_a_leaf_that_the_format_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^\['x'\] is int4, which a checkpoint cannot hold$"):
        Checkpoints(tmp_path).save(1, {"x": np.zeros(2, ml_dtypes.int4)}, {})
    assert list(tmp_path.iterdir()) == []


def test_the_last_two_are_kept_and_newer_ones_discarded(tmp_path):
    """In the order of numbers, not of names; saving again replaces."""
    checkpoints = Checkpoints(tmp_path)
    assert checkpoint.newest(tmp_path / "none") == checkpoint.newest(tmp_path) == 0
    for iteration in (8, 9, 10, 10):
        checkpoints.save(iteration, STATE, {})
    (tmp_path / "11.safetensors.tmp").touch()  # of a save that was killed
    assert checkpoint.newest(tmp_path) == 10
    assert {path.name for path in tmp_path.iterdir()} == {"9.safetensors", "10.safetensors", "11.safetensors.tmp"}
    checkpoints.discard_after(9)
    assert {path.name for path in tmp_path.iterdir()} == {"9.safetensors"}


def test_a_former_versions_checkpoint_is_named(tmp_path):
    (tmp_path / "7").mkdir()
    with pytest.raises(InputError, match=f"^{tmp_path}/7 was written by an older jaxrl"):
        Checkpoints(tmp_path).restore(STATE)


def test_nothing_is_made_by_looking(tmp_path):
    assert Checkpoints(tmp_path / "none").restore(STATE) is None
    Checkpoints(tmp_path / "none").discard_after(0)
    assert list(tmp_path.iterdir()) == []
