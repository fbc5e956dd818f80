"""Test session set-up: CPU only, and strict about what JAX would let pass."""

import contextlib
import gc
import os
import time
from pathlib import Path

# Compiling takes most of the time of these tests: half as long without optimisation, a tenth less with a program in one
# part. `make test` adds QUICK, XLA's older emitters, which halve it again. They round otherwise in another layout: tests
# marked `exact` run without.
# Each flag once, for xdist's workers inherit what the session set, and to the cache other flags are other programs.
os.environ["XLA_FLAGS"] = " ".join(
    dict.fromkeys(
        [
            *os.environ.get("XLA_FLAGS", "").split(),
            "--xla_backend_optimization_level=0",
            "--xla_cpu_parallel_codegen_split_count=1",
            *os.environ.get("QUICK", "").split(),
        ]
    )
)

import jax
import pytest

from jaxrl.devices import platform

platform.set_flags()  # as jaxrl.configure() does

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


gc.set_threshold(200_000, 20, 100)  # a traced program is millions of objects that none of the collections would free


# The slowest files, the slowest first: a worker takes a file at a time, and none must wait for the other at the end. Ray's
# wait for processes, beside which another worker computes.
LONG = [
    "sweeps/test_ray_engine",
    "agents/test_agent_contract",
    "test_benchmarks",
    "runs/test_driver",
    "agents/test_truncation",
    "tuning/test_directory",
    "sweeps/test_directory",
    "cli/test_own_code",
    "show/test_report",
    "agents/test_dqn",
    "test_bandit_testbed",
]


def pytest_configure(config):
    """One compilation cache for all sessions in this checkout and their subprocesses, away from the user's.

    Of everything: a session has thousands of programs that compile in less than 0.3 seconds. What no session of the last
    week read is deleted.
    """
    shared = os.environ.get("JAXRL_TEST_CACHE", str(config.rootpath / ".xla_cache"))
    if not hasattr(config, "workerinput"):  # a session, not one of its workers
        for entry in Path(shared).glob("*-cache"):
            with contextlib.suppress(FileNotFoundError):  # another session was faster
                if time.time() - max(entry.stat().st_atime, entry.stat().st_mtime) > 7 * 86_400:
                    entry.unlink()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = shared
    jax.config.update("jax_compilation_cache_dir", shared)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items):
    """Those of LONG first, the others as they were."""
    place = {f"tests/{name}.py": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


@pytest.fixture(scope="module")
def no_pictures():
    """Training draws nothing in a module whose tests look at no picture."""
    from tests.command_line import without_pictures

    with without_pictures():
        yield


@pytest.fixture
def keep_platform(monkeypatch):
    """For commands called in this process: its backend is running, so its settings stay."""
    monkeypatch.setattr("jaxrl.devices.platform.configure", lambda *_, **__: None)
