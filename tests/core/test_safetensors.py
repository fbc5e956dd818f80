"""core/safetensors.py: files as the format describes them are read, others are refused in one line."""

import json

import ml_dtypes
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.core.safetensors import DTYPES, read
from tests.extras import extra

A, B = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]}


def file_of(header, body, length=None):
    """The bytes by the format's description, the header not padded. header: JSON's value, or its text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


@pytest.mark.parametrize("padding", range(8))
def test_what_the_format_describes_is_read(padding, tmp_path):
    """Wherever the arrays begin in memory; in any order; scalars, empty arrays, odd names; the metadata apart."""
    x, half, brain = np.arange(6, dtype="<f4").reshape(2, 3), np.float16([0.5, -2]), np.array([1.5], ml_dtypes.bfloat16)
    header = {
        "b/ü\n": {"dtype": "BF16", "shape": [1], "data_offsets": [28, 30]},
        "__metadata__": {"format": "pt" + " " * padding},
        "a": A,
        "half": {"dtype": "F16", "shape": [2], "data_offsets": [24, 28]},
        "none": {"dtype": "F64", "shape": [0, 3], "data_offsets": [24, 24]},
        "scalar": {"dtype": "I8", "shape": [], "data_offsets": [30, 31]},
    }
    file = tmp_path / "x.safetensors"
    file.write_bytes(file_of(header, x.tobytes() + half.tobytes() + brain.tobytes() + b"\xfd"))
    found = read(str(file))
    expected = {"b/ü\n": brain, "a": x, "half": half, "none": np.zeros((0, 3)), "scalar": np.int8(-3)}
    assert list(found) == list(expected)
    for name, y in expected.items():
        assert found[name].dtype == y.dtype and found[name].shape == y.shape
        np.testing.assert_array_equal(found[name], y)


def test_an_empty_file_of_the_format_has_no_arrays(tmp_path):
    (tmp_path / "x").write_bytes(file_of({}, b""))
    assert read(tmp_path / "x") == {}


FAULTS = {
    "emptied": (b"", "it ends within its header"),
    "seven_bytes": (b"\x02" + bytes(6), "it ends within its header"),
    "header_cut": (file_of({"a": A}, b"")[:-1], "it ends within its header"),
    "length": (file_of({"a": A}, bytes(24), 2**63), "it ends within its header"),
    "zeros": (bytes(100), "its header is no JSON"),
    "noise": (file_of(b"\xff\x00\xfe{", b""), "its header is no JSON"),
    "nested": (file_of(b"[" * 100_000 + b"]" * 100_000, b""), "its header is no JSON"),
    "list": (file_of([A], bytes(24)), "its header is no JSON object"),
    "cut": (file_of({"a": A}, bytes(20)), "'a' ends 4 bytes behind the file's end: it is cut, or damaged"),
    "longer": (file_of({"a": A}, bytes(25)), "1 bytes at its end belong to no array"),
    "overlap": (file_of({"a": A, "b": B | {"data_offsets": [16, 24]}}, bytes(24)), "the bytes of 'b' overlap others"),
    "twice": (file_of({"a": A, "b": A}, bytes(24)), "the bytes of 'b' overlap others"),
    "hole": (file_of({"a": A, "b": B | {"data_offsets": [28, 36]}}, bytes(36)), "the bytes of 'b' .* do not follow on"),
    "backwards": (file_of({"a": A | {"data_offsets": [24, 0]}}, bytes(24)), r"'a' has data_offsets \[24, 0\]"),
    "negative": (file_of({"a": A | {"data_offsets": [-24, 0]}}, bytes(24)), r"'a' has data_offsets \[-24, 0\]"),
    "three": (file_of({"a": A | {"data_offsets": [0, 1, 24]}}, bytes(24)), r"'a' has data_offsets \[0, 1, 24\]"),
    "fraction": (file_of({"a": A | {"data_offsets": [0, 24.0]}}, bytes(24)), r"'a' has data_offsets \[0, 24.0\]"),
    "dtype": (file_of({"a\n": A | {"dtype": "F4\n"}}, bytes(24)), r"'a\\\\n' has dtype 'F4\\n', which is none of BOOL, U8,"),
    "dtype_list": (file_of({"a": A | {"dtype": []}}, bytes(24)), r"'a' has dtype \[\], which is none of BOOL, U8,"),
    "shape": (file_of({"a": A | {"shape": [2, 4]}}, bytes(24)), r"'a' is F32\[2, 4\], which are 32 bytes, not 24"),
    "shape_negative": (file_of({"a": A | {"shape": [-2, -3]}}, bytes(24)), r"'a' has shape \[-2, -3\]"),
    "shape_true": (file_of({"a": A | {"shape": [6, True]}}, bytes(24)), r"'a' has shape \[6, True\]"),
    "shape_vast": (file_of({"a": A | {"shape": [0, 2**70], "data_offsets": [0, 0]}}, b""), r"'a' has shape \[0, 118"),
    "shape_long": (file_of({"a": A | {"shape": "x" * 10**6}}, bytes(24)), r"'a' has shape 'x{58}…"),
    "entry": (file_of({"a": 3}, bytes(24)), "of 'a' it must say dtype, shape and data_offsets"),
    "entry_short": (file_of({"a": {"dtype": "F32"}}, bytes(24)), "of 'a' it must say dtype, shape and data_offsets"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_none_is_refused_in_one_line(data, said, tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(data)
    with pytest.raises(InputError, match=f"^{file} is no whole safetensors file: {said}") as refused:
        read(file)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=f"^cannot read {tmp_path}/none: No such file or directory$"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=f"^cannot read {tmp_path}: Is a directory$"):
        read(tmp_path)


def test_files_of_its_own_library(tmp_path):
    """Every dtype that NumPy has."""
    library = extra("safetensors.numpy")
    arrays = {
        code: np.arange(7).astype(name) for code, name in DTYPES.items() if hasattr(np, name) and code not in ("BOOL", "C64")
    }
    library.save_file(arrays, tmp_path / "x.safetensors", {"format": "np"})
    found = read(tmp_path / "x.safetensors")
    assert len(arrays) == 11 and set(found) == set(arrays)
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
