"""Test session set-up: CPU only, and strict about what JAX would let pass."""

import gc
import os

# Compiling takes most of the time of these tests: half as long without optimisation. `make test` adds QUICK,
# XLA's older emitters, which halve it again. They round otherwise in another layout: tests marked `exact` run without.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0", os.environ.get("QUICK", "")]
)

import jax
import pytest

from jaxrl.devices import platform

platform.set_flags()  # as jaxrl.configure() does

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


gc.set_threshold(200_000, 20, 100)  # a traced program is millions of objects that none of the collections would free


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(pytestconfig):
    """One compilation cache for all sessions in this checkout and their subprocesses, away from the user's."""
    shared = os.environ.get("JAXRL_TEST_CACHE", str(pytestconfig.rootpath / ".xla_cache"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = shared
    jax.config.update("jax_compilation_cache_dir", shared)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def keep_platform(monkeypatch):
    """For commands called in this process: its backend is running, so its settings stay."""
    monkeypatch.setattr("jaxrl.devices.platform.configure", lambda *_, **__: None)
