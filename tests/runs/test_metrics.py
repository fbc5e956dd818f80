"""metrics.py: numbers as JSON, rows in order, files that are cut and damaged."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.runs import metrics


@pytest.mark.parametrize(
    ("x", "result"),
    [
        (np.float32(0.1), 0.1),  # its own shortest digits, not 0.10000000149
        (np.float64(1 / 3), 1 / 3),
        (np.float32(1e-8), 1e-8),
        (np.float32(16777216.0), 16777216.0),
        (np.float32(math.nan), None),
        (np.float32(math.inf), None),
        (-math.inf, None),
        (np.int32(-7), -7),
        (np.bool_(True), True),
        (np.array(2.5, np.float32), 2.5),
        (jnp.float32(0.2), 0.2),
        (3, 3),
        (0.25, 0.25),
    ],
)
def test_plain(x, result):
    found = metrics.plain(x)
    assert found == result and type(found) is type(result)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("bits", np.random.default_rng(0).integers(0, 2**31 - 2**23, 20, dtype=np.int64))
def test_plain_keeps_every_bit_of_a_float32(bits):
    x = np.int32(bits).view(np.float32)
    assert np.float32(metrics.plain(x)) == x


def test_plain_takes_arrays_as_it_takes_each_number():
    """Random bits as float32, all kinds of numbers among them, beside the shortest digits of each."""
    x = np.random.default_rng(1).integers(-(2**31), 2**31, (3, 500), dtype=np.int64).astype(np.int32).view(np.float32)
    x[0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    expected = [[float(str(value)) if math.isfinite(value) else None for value in row] for row in x]
    assert json.dumps(metrics.plain(x)) == json.dumps(expected)


def test_rows_are_ordered_by_iteration_then_seed():
    """Of two iterations; the last was evaluated."""
    table = {"loss": np.array([[0.0, 1.0], [np.nan, 5.0]], np.float32), "episodes": np.array([[0, 10], [40, 50]])}
    evaluated = {"eval_return": np.array([0.1, np.inf], np.float32)}
    assert metrics.rows_of(5, table, evaluated, [{"seed": 7}, {"seed": 8}]) == [
        {"iteration": 5, "seed": 7, "loss": 0.0, "episodes": 0},
        {"iteration": 5, "seed": 8, "loss": None, "episodes": 40},
        {"iteration": 6, "seed": 7, "loss": 1.0, "episodes": 10, "eval_return": 0.1},
        {"iteration": 6, "seed": 8, "loss": 5.0, "episodes": 50, "eval_return": None},
    ]


def write(path, rows, keep_bytes=None):
    log = metrics.JsonLines(path, keep_bytes)
    log.write(rows)
    length = log.flush()
    log.close()
    return length


def test_flush_returns_the_length_on_disk(tmp_path):
    path = tmp_path / "m.jsonl"
    log = metrics.JsonLines(path)
    assert log.flush() == 0
    log.write([{"a": 1}])
    assert log.flush() == path.stat().st_size == len('{"a": 1}\n')
    log.write([{"a": 2}, {"a": 3}])
    assert log.flush() == path.stat().st_size == 27
    log.close()


@pytest.mark.parametrize(("keep", "expected"), [(None, [1, 2, 9]), (18, [1, 2, 9]), (9, [1, 9]), (0, [9])])
def test_an_existing_file_is_cut_and_then_appended_to(tmp_path, keep, expected):
    path = tmp_path / "m.jsonl"
    assert write(path, [{"a": 1}, {"a": 2}]) == 18
    assert write(path, [{"a": 9}], keep) == 9 * len(expected)
    assert metrics.read(path, {}) == [{"a": a} for a in expected]


def test_what_is_written_is_read_back(tmp_path):
    rows = [{"iteration": 0, "x": None, "y": 0.1, "z": True}, {"iteration": 1, "x": -1e-30, "y": 1e30, "z": False}]
    write(tmp_path / "m.jsonl", rows)
    assert metrics.read(tmp_path / "m.jsonl", {}) == rows


@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2', '{"a": 1}\n{"a": 2}', '{"a": 1}\n', '{"a": 1}\n\x00'])
def test_a_last_line_cut_by_a_crash_is_left_out(tmp_path, text):
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    assert metrics.read(path, {}) == [{"a": 1}]


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "m.jsonl").touch()
    assert metrics.read(tmp_path / "m.jsonl", {}) == []


@pytest.mark.parametrize(("text", "line"), [('{"a": 1}\n{"a": \n{"a": 3}\n', 2), ("x\n", 1), ('{"a": 1}\n\n{"a": 1}\n', 2)])
def test_a_damaged_line_is_named(tmp_path, text, line):
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"m\.jsonl: line {line} is damaged"):
        metrics.read(path, {})


def test_a_damaged_line_of_no_text_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe\n{"a": 3}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        metrics.read(path, {})


def test_a_last_line_cut_by_a_crash_is_cut_off_where_lines_are_appended(tmp_path):
    path = tmp_path / "timing.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    log = metrics.JsonLines(path)
    log.write([{"a": 3}])
    log.close()
    assert metrics.read(path, {}) == [{"a": 1}, {"a": 3}]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"is damaged: it has no none\.jsonl"):
        metrics.read(tmp_path / "none.jsonl")
