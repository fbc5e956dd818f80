"""What decides a run's last bits is recorded, and a difference is said in words."""

import json
import os
import subprocess
import sys

import jax
import pytest

from jaxrl.devices.bits import bits, differences, flags

SAME = [
    ("", ""),
    ("--xla_a=true", "--xla_a"),
    ("--xla_a=1 --xla_b=2", " --xla_b=2   --xla_a=True"),
    ("--xla_disable_hlo_passes=cse,licm", "--xla_disable_hlo_passes=licm,cse"),
    ("--xla_a=false --xla_a=true", "--xla_a=true"),
    ("--xla_dump_to=/tmp/a --xla_force_host_platform_device_count=8", "--xla_force_host_platform_device_count=2"),
]
OTHER = [
    ("--xla_cpu_enable_fast_math=true", "", "XLA_FLAGS had --xla_cpu_enable_fast_math=true, here not"),
    ("", "--xla_cpu_enable_fast_math", "XLA_FLAGS had no --xla_cpu_enable_fast_math, here true"),
    ("--xla_a=256", "--xla_a=512", "XLA_FLAGS had --xla_a=256, here 512"),
    ("--xla_p=cse,licm", "--xla_p=cse", "XLA_FLAGS had --xla_p=cse,licm, here cse"),
    ("--xla_a=true --xla_a=false", "--xla_a=true", "XLA_FLAGS had --xla_a=false, here true"),
]
MACHINE = {"platform": "cpu", "jaxlib": "0.10.2", "jax_enable_x64": False, "CPU features": "x86_64 avx2 fma"}


@pytest.mark.parametrize(("then", "now"), SAME)
def test_flags_that_mean_the_same(then, now):
    assert differences(flags(then), flags(now)) == []


@pytest.mark.parametrize(("then", "now", "said"), OTHER)
def test_flags_that_differ(then, now, said):
    assert differences(flags(then), flags(now)) == [said]


def test_other_versions_settings_and_machines_are_named():
    here = MACHINE | {"jaxlib": "0.11.0", "jax_enable_x64": True, "CPU features": "x86_64 avx avx2 avx512f fma"}
    assert differences(MACHINE, here) == [
        "CPU features was x86_64 avx2 fma, here x86_64 avx avx2 avx512f fma",
        "jax_enable_x64 was False, here True",
        "jaxlib was 0.10.2, here 0.11.0",
    ]
    assert differences(MACHINE, {"jaxlib": "0.10.2"}) == differences({}, MACHINE) == []  # what another version records


def test_what_is_found_here_is_json_and_sees_settings():
    found = bits()
    assert json.loads(json.dumps(found)) == found and differences(found, bits()) == []
    assert found["platform"] == "cpu" and found["jax"] == jax.__version__ and "--xla_backend_optimization_level" in found
    with jax.threefry_partitionable(False), jax.default_matmul_precision("float32"):
        assert differences(found, bits()) == [
            "jax_default_matmul_precision was None, here float32",
            "jax_threefry_partitionable was True, here False",
        ]


def test_variables_of_jax_are_seen():
    """In another process, for these decide before it starts; its number of devices is none of them."""
    code = "import json, jax; from jaxrl.devices.bits import bits; print(json.dumps(bits()))"
    changed = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_NUM_CPU_DEVICES": "3"}
    ask = lambda env: json.loads(subprocess.check_output([sys.executable, "-c", code], env=os.environ | env))  # noqa: E731
    assert differences(ask({}), ask(changed)) == [
        "jax_default_prng_impl was threefry2x32, here rbg",
        "jax_enable_x64 was False, here True",
    ]
