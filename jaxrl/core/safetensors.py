"""Files of named arrays in the format safetensors, read by hand (github.com/huggingface/safetensors).

8 bytes little-endian length of a JSON header, the header, the arrays' bytes. The header names each array with its dtype,
shape and place behind the header; `__metadata__` is whatever the writer says beside them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl.core.errors import InputError, printable

SUFFIX = ".safetensors"
METADATA = "__metadata__"
DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "I8": "int8", "I16": "int16",
    "I32": "int32", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
}  # fmt: skip
LARGEST = 2**56  # elements; of a shape with more NumPy makes no array, not even an empty one
CODES = {name: code for code, name in DTYPES.items()}


class _Fault(Exception):
    """What is wrong with a file, in words."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of any safetensors file by name, in the dtypes they have there (bfloat16 and the 8-bit floats too).

    Their pages are read when first touched, and a change is not written back. Nothing says that they are what was written:
    the format has no digest. Raises InputError where the file cannot be read, is cut, or is none of this format.
    """
    try:
        data = mapped(Path(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        header, body = _checked_parts(data)
        return {name: array(body, **place) for name, place in header.items()}
    except _Fault as fault:
        raise InputError(f"{path} is no whole {SUFFIX[1:]} file: {fault}") from fault


def mapped(path: Path) -> np.ndarray:
    """The bytes of a file, uint8: pages are read when first touched, a change is not written back. Raises OSError."""
    return np.asarray(np.memmap(path, np.uint8, "c")) if path.stat().st_size else np.zeros(0, np.uint8)


def parts(data: np.ndarray) -> tuple[Any, np.ndarray]:
    """The header, parsed, and the bytes of the arrays, of a file's bytes that are known to be whole."""
    start = _start(data)
    return json.loads(data[8:start].tobytes()), data[start:]


def array(body: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    """The array of one entry of the header, not copied. body: uint8, the bytes behind the header."""
    return body[slice(*data_offsets)].view(jnp.dtype(DTYPES[dtype])).reshape(shape)


def _start(data: np.ndarray) -> int:
    """Where the bytes of the arrays begin."""
    return 8 + int.from_bytes(data[:8].tobytes(), "little")


def _checked_parts(data: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """As `parts` without the metadata, of any bytes. Raises _Fault where they are not of the format."""
    if len(data) < 8 or _start(data) > len(data):
        raise _Fault("it ends within its header")
    try:
        header, body = parts(data)
    except (ValueError, RecursionError) as error:  # neither text nor JSON; JSON nested too deep
        raise _Fault("its header is no JSON") from error
    if not isinstance(header, dict):
        raise _Fault("its header is no JSON object")
    header.pop(METADATA, None)
    for name, place in header.items():
        _check_entry(repr(printable(name)), place, len(body))
    end = 0
    for name, place in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        first, last = place["data_offsets"]
        if first != end:
            raise _Fault(f"the bytes of {printable(name)!r} overlap others, or do not follow on them")
        end = last
    if end != len(body):
        raise _Fault(f"{len(body) - end} bytes at its end belong to no array")
    return header, body


def _check_entry(name: str, place: Any, size: int) -> None:
    """One array of a header with `size` bytes behind it."""
    if not isinstance(place, dict) or set(place) != {"dtype", "shape", "data_offsets"}:
        raise _Fault(f"of {name} it must say dtype, shape and data_offsets")
    dtype, shape, offsets = place["dtype"], place["shape"], place["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _Fault(f"{name} has dtype {_short(dtype)}, which is none of {', '.join(DTYPES)}")
    if not _is_sizes(shape) or math.prod(max(x, 1) for x in shape) > LARGEST:
        raise _Fault(f"{name} has shape {_short(shape)}")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Fault(f"{name} has data_offsets {_short(offsets)}")
    if offsets[1] > size:
        raise _Fault(f"{name} ends {offsets[1] - size} bytes behind the file's end: it is cut, or damaged")
    expected, found = math.prod(shape) * jnp.dtype(DTYPES[dtype]).itemsize, offsets[1] - offsets[0]
    if expected != found:
        raise _Fault(f"{name} is {dtype}{shape}, which are {expected} bytes, not {found}")


def _is_sizes(value: Any) -> bool:
    """Whether a value is a list of numbers from 0."""
    return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)


def _short(value: Any) -> str:
    """A value of a file for a message of one line."""
    text = printable(repr(value))
    return text if len(text) <= 60 else text[:59] + "…"
