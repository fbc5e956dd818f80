"""The package as others get it: a wheel, built from the sources alone, installed and used outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of a new environment that has the wheel, and of this one only what the wheel depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    source, home = folder / "source", folder / "venv"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "jaxrl", source / "jaxrl", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    run(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", folder, source)
    run(sys.executable, "-m", "venv", "--without-pip", home)
    (wheel,) = folder.glob("jaxrl-*.whl")
    run(*pip, f"--python={home / 'bin' / 'python'}", "install", *offline, "--no-compile", wheel)
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])  # of which no .pth is read: not the checkout
    return home / "bin" / "python"


def run(*words, **kwargs):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # which may lead to the checkout
    done = subprocess.run(list(map(str, words)), env=env, capture_output=True, text=True, timeout=300, **kwargs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_trains_and_reports_outside_the_checkout(python, tmp_path):
    """The command, the presets, the report's files, the version: all of them come out of the wheel."""
    out = tmp_path / "run"
    words = ["train", "q_learning", "--env", "FrozenLake-misc", "--total-steps", 5000, "--seeds", 2, "--out", out, "--json"]
    found = json.loads(run(python.with_name("jaxrl"), *words, cwd=tmp_path).splitlines()[-1])
    assert found["env_steps"] >= 10_000 and json.loads((out / "config.json").read_text())["preset"] == "FrozenLake-misc"
    code = f"""
import pathlib, jaxrl
from jaxrl.cli.main import main
main(["report", {str(out)!r}, "--out", "report.html"])
print(jaxrl.__file__, jaxrl.__version__, pathlib.Path(jaxrl.__file__).with_name("py.typed").exists())
"""
    file, version, typed = run(python, "-c", code, cwd=tmp_path).split()[-3:]
    assert Path(file).is_relative_to(python.parent.parent) and typed == "True"
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (tmp_path / "report.html").stat().st_size > 100_000
