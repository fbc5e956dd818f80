"""documents.py: what is damaged is one line that names it; what another version wrote is told apart."""

import json
import os

import pytest

from jaxrl.core.errors import InputError
from jaxrl.runs import documents
from tests.directories import KINDS, config, write_config

SCHEMA = {"a": int, "b": float, "c": list[str], "d": int | None}
WHOLE = {"a": 1, "b": 2, "c": ["x"], "d": None, "more": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": True}, "a is 'True', not of type int"),
        ({"a": 1.0}, "a is '1.0', not of type int"),
        ({"b": "2"}, "b is '2', not of type float"),
        ({"c": [1]}, "c is '[1]', not of type"),
        ({"c": "x"}, "c is 'x', not of type"),
        ({"d": "no"}, "d is 'no', not of type"),
    ],
)
def test_a_field_of_another_type_is_named(change, message):
    documents.check(WHOLE, "f", SCHEMA)
    with pytest.raises(InputError) as refused:
        documents.check(WHOLE | change, "f", SCHEMA)
    assert str(refused.value).startswith(f"f is damaged: {message}")


@pytest.mark.parametrize("name", SCHEMA)
def test_a_missing_field_is_named(name):
    with pytest.raises(InputError, match=f"^f is damaged: it has no {name}$"):
        documents.check({key: x for key, x in WHOLE.items() if key != name}, "f", SCHEMA)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "nul", '{"a": ' + "[" * 100_000, "\x00" * 50], ids=range(7))
def test_what_is_no_object_is_damaged(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        documents.read(path, {})
    assert str(refused.value).startswith(f"{path} is damaged: ") and "\n" not in str(refused.value)


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "config.json").mkdir()
    for path in (tmp_path / "config.json", tmp_path / "none.json"):
        with pytest.raises(InputError, match=f"^{path} cannot be read: "):
            documents.read(path, {})


def test_a_reader_never_sees_a_part(tmp_path, monkeypatch):
    """Killed while writing: the former document is whole."""
    path = tmp_path / "a.json"
    documents.write(path, {"a": 1})

    def dies(draft, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        documents.write(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_and_refused_where_another_is_wanted(kind, tmp_path):
    write_config(tmp_path, kind)
    assert documents.kind_of(tmp_path) == kind and documents.read_config(tmp_path, kind) == config(kind)
    others = [other for other in KINDS if other != kind]
    with pytest.raises(InputError, match=f"is a {kind}, not a {others[0]} or {others[1]}"):
        documents.read_config(tmp_path, *others)
    for name in documents.KINDS[kind]:
        values = config(kind)
        del values[name]
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(InputError, match=f"config.json is damaged: it has no {name}$"):
            documents.read_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sweep.json", "{}", "was written by jaxrl 0.1"),
        ("tune.json", "{}", "was written by jaxrl 0.1"),
        ("config.json", '{"jaxrl_run": 2}', "was written by jaxrl 0.1"),
        ("config.json", '{"jaxrl": 4, "kind": "run"}', "has format 4, which this version of jaxrl does not know"),
        ("config.json", '{"jaxrl": 3, "kind": "ruin"}', "kind is 'ruin', none of run, sweep, wave, tuning, population"),
        ("thesis.tex", "", "is no jaxrl directory: it has no config.json"),
    ],
)
def test_directories_of_others_are_told_apart(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        documents.read_config(tmp_path)
