"""lookup.py: own code found by name, named again, and told from what it was."""

import os
import pickle
import subprocess
import sys

import pytest

from jaxrl.experiment import lookup, registry
from tests import toys


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("number = 7\n")
    (tmp_path / "own.py").write_text(
        "import beside\n\ndef make():\n    return beside.number\n\nclass Space:\n    inner = 5\n"
    )
    yield tmp_path / "own.py"
    sys.modules.pop("beside", None)
    sys.path[:] = [p for p in sys.path if p != str(tmp_path)]


def test_a_file_is_found_with_what_lies_beside_it_and_named_again(file):
    make = lookup.find("own.py:make")
    assert make() == 7 and lookup.find("own.py:Space.inner") == 5
    assert lookup.name_of(make) == "own.py:make" and lookup.find("own.py:make") is make
    assert lookup.source("own.py:make") == {"path": str(file), "sha256": lookup.digest(file)}
    assert pickle.loads(pickle.dumps(make)) is make


def test_a_digest_is_what_sha256sum_says(file):
    assert lookup.digest(file) == subprocess.run(["sha256sum", file], capture_output=True, text=True).stdout.split()[0]


def test_a_changed_file_is_loaded_again_and_told(file):
    before = {"own.py:make": lookup.source("own.py:make")} if lookup.find("own.py:make") else {}
    lookup.check_unchanged(before)
    file.write_text("def make():\n    return 8\n")
    assert lookup.find("own.py:make")() == 8
    with pytest.raises(ValueError, match=r"own.py.*has changed since it was recorded .*--anyway"):
        lookup.check_unchanged(before)


def test_where_a_file_was_recorded_comes_before_the_working_directory(file, tmp_path, monkeypatch):
    lookup.find("own.py:make")
    sources = {"own.py:make": lookup.source("own.py:make")}
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    (tmp_path / "other" / "own.py").write_text("def make():\n    return 9\n")
    assert lookup.find("own.py:make")() == 9
    with lookup.recorded(sources):
        assert lookup.find("own.py:make")() == 7
    lookup.check_unchanged(sources)
    os.remove(file)
    with pytest.raises(ValueError, match="has changed"):  # the one of the working directory is another
        lookup.check_unchanged(sources)


def test_a_module_is_found_and_what_lies_in_modules_is_named_by_itself():
    assert lookup.find("tests.toys:Level.HParams") is toys.Level.HParams
    assert lookup.name_of(toys.level_env) == "tests.toys:level_env"
    assert lookup.name_of(toys.Level.Config) == "tests.toys:Level.Config"
    assert lookup.source("tests.toys:level_env") == {"path": toys.__file__, "sha256": lookup.digest(toys.__file__)}
    assert lookup.name_of(lambda: 0) is lookup.name_of(toys.level_env()) is lookup.name_of(3) is None


BAD = [
    ("nowhere.py:make", "nowhere.py:make: no file nowhere.py"),
    ("onw.py:make", "nearest: own.py"),
    ("own.py:mkae", "own.py has no 'mkae'; nearest: make"),
    ("own.py:", "own.py has no ''"),
    ("broken.py:x", "broken.py: invalid syntax"),
    ("needy.py:x", "No module named 'not_there_at_all'"),
    ("raising.py:x", "raising.py raises NameError: name 'undefined' is not defined ("),
    ("raising:x", "raising raises NameError: name 'undefined' is not defined ("),
    ("not_there_at_all:x", "No module named 'not_there_at_all'"),
    ("tests.toys:Levle", "nearest: Level"),
    ("gymnasium CartPole:x", "must be package.module:attribute or path/file.py:attribute"),
    (":x", "must be package.module:attribute"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_not_there_is_named_in_one_line(file, text, message):
    (file.parent / "broken.py").write_text("def (")
    (file.parent / "needy.py").write_text("import not_there_at_all")
    (file.parent / "raising.py").write_text("x = undefined")
    with pytest.raises(ValueError, match=".*") as refused:
        lookup.find(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_an_environment_that_cannot_be_made_is_named_in_one_line(file):
    (file.parent / "faulty.py").write_text(
        "def two(a, b=1, *args, **kwargs):\n    return a\n\ndef wrong(size=2):\n    return size + 'x'\n"
    )
    for name, kwargs, message in (
        ("two", {}, r"env faulty.py:two needs a: --env-kwarg a=\.\.\. \(env_kwargs\)"),
        ("two", {"a": 3}, "env faulty.py:two makes int, neither"),
        ("wrong", {}, r"making faulty.py:wrong raises TypeError: unsupported .*faulty.py, line 5\)"),
        ("wrong", {"size": 3}, "faulty.py:wrong refuses {'size': 3}: .*unsupported operand"),
    ):
        with pytest.raises(ValueError, match=f"^{message}") as refused:
            registry.find_env(f"faulty.py:{name}", kwargs)
        assert "\n" not in str(refused.value)


def test_a_call_is_read_and_never_run():
    assert lookup.call_of("a.py:f(1, 'x', low=-2.5)", "thing") == ("a.py:f", [1, "x"], {"low": -2.5})
    assert lookup.call_of("flatten", "thing") == ("flatten", [], {})
    for text in ("f(", "f(1))", "f(open('x'))", "f(1)+1", "f(x)"):
        with pytest.raises(ValueError, match="must look like name"):
            lookup.call_of(text, "thing")
