"""platform.py: what `import jaxrl` leaves alone, what `configure` sets, and when one is told that it did not."""

import os
import subprocess
import sys
import warnings

import pytest

from jaxrl.devices import platform


def run(code, **env):
    """A fresh process without XLA's flags; gives what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")} | env
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


IMPORTED = """
import os, sys, jax
before = dict(os.environ), jax.config.values.copy()
import jaxrl
assert (dict(os.environ), jax.config.values) == before, "something was set"
print(sorted({"gymnax", "matplotlib", "optuna", "ray", "wandb", "tensorboardX", "gymnasium"} & set(sys.modules)))
jax.config.update("jax_num_cpu_devices", 3)  # which JAX refuses once a backend has started
print(jax.device_count())
"""


def test_importing_sets_nothing_starts_nothing_and_imports_nothing_large():
    assert run(IMPORTED, JAX_PLATFORMS="cpu") == ["[]", "3"]


CONFIGURED = """
import os, warnings, jax, jaxrl
from jaxrl.devices import platform
warnings.simplefilter("error")
jaxrl.configure(3, cache=False)
assert jax.config.jax_compilation_cache_dir is None
print(jax.device_count(), "individual_dot" in os.environ["XLA_FLAGS"])
jaxrl.configure(3)  # again, as in a notebook
platform.remind()
print(jax.config.jax_compilation_cache_dir)
try:
    jaxrl.configure(2)
except ValueError as error:
    print(error)
"""


def test_configure_sets_flags_devices_and_the_cache(tmp_path):
    env = {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    devices, cache, late = run(CONFIGURED.replace('"individual_dot" in', '"disable_hlo_passes" in'), **env)
    assert devices == "3 True" and cache == str(tmp_path / "jaxrl" / "xla")
    assert late.startswith("jaxrl.configure() must be called before JAX's backend starts")


LATE = """
import warnings, jax
jax.numpy.zeros(1)
import jaxrl
from jaxrl.devices import platform
try:
    jaxrl.configure()
except ValueError as error:
    print(error)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    platform.remind()
    platform.remind()
print(*[f"{w.category.__name__}: {w.message}" for w in told], sep=chr(10))
"""


def test_a_backend_that_started_before_is_told_once():
    refused, *told = run(LATE, JAX_PLATFORMS="cpu")
    assert refused.startswith("jaxrl.configure() must be called before")
    assert len(told) == 1 and told[0].startswith("SamenessWarning: jaxrl.configure() was not called before")


def test_nothing_is_told_where_the_flags_are_set(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        platform.remind()  # conftest.py has set them
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(platform, "_reminded", False)
    with pytest.warns(platform.SamenessWarning):
        platform.remind()
