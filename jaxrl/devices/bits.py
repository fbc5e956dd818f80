"""What decides the last bits of a run beside its settings: recorded when it begins, compared before it goes on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax")  # whose code is in the compiled program
SETTINGS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_default_matmul_precision",
    "jax_allow_f16_reductions",
    "jax_softmax_custom_jvp",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
)
NUMBERLESS = ("--xla_dump", "--xla_force_host_platform_device_count", "--xla_gpu_cuda_data_dir", "--xla_hlo_graph")
WORDS = {"": "true", "1": "true", "true": "true", "0": "false", "false": "false"}  # what XLA takes for a truth value
# Of a CPU: how wide its vectors are, and whether a product and a sum, or bfloat16, are rounded in one step.
FEATURES = {"fma", "avx", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve", "sve2"}


def bits() -> dict[str, Any]:
    """By name, as JSON holds them: flags of XLA, settings of JAX, versions, and what computes. Starts the backend.

    Without numbers of cores and devices (the layout records those that matter) and without paths. Flags are those that
    XLA_FLAGS holds now, which are in force unless it was changed after the backend started.
    """
    device = jax.local_devices()[0]
    machine = {"platform": device.platform, "device": device.device_kind}
    if device.platform == "cpu":
        machine["CPU features"] = " ".join([platform.machine(), *sorted(FEATURES & _cpu_flags())])
    settings = {name: getattr(jax.config, name) for name in SETTINGS if hasattr(jax.config, name)}
    return flags(os.environ.get("XLA_FLAGS", "")) | settings | {p: importlib.metadata.version(p) for p in PACKAGES} | machine


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """In words, one each; none where the bits will be the same. A name that only one side knows counts if it is a flag."""
    said = []
    for name in sorted(recorded.keys() | here.keys()):
        then, now = recorded.get(name), here.get(name)
        flag = name.startswith("--")
        if flag and then != now:
            had = f"no {name}" if then is None else f"{name}={then}"
            said.append(f"XLA_FLAGS had {had}, here {'not' if now is None else now}")
        elif then != now and name in recorded and name in here:
            said.append(f"{name} was {then}, here {now}")
    return said


def flags(text: str) -> dict[str, str]:
    """XLA_FLAGS that can change numbers, by name; of one given twice the last holds, as in XLA. Lists are sorted."""
    found = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if not name.startswith(NUMBERLESS):
            found[name] = ",".join(sorted(WORDS.get(value.lower(), value).split(",")))
    return found


def _cpu_flags() -> set[str]:
    """As Linux lists them; elsewhere none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return set()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.partition(":")[2].split()}
