"""What must be set before the XLA backend starts, and facts about where a run happens."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import warnings
from pathlib import Path
from typing import Any

import jax

from jaxrl.core.errors import InputError

PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "chex", "gymnax", "numpy")
ORDERED_SUMS = "--xla_cpu_experimental_ynn_fusion_type=individual_dot"
SAME_LOOPS = "--xla_backend_extra_options=xla_cpu_disable_tiled_emitter,xla_cpu_disable_loop_unrolling"
WHOLE_PRODUCTS = "--xla_cpu_multi_thread_eigen=false"
SAME_PASSES = "--xla_disable_hlo_passes=cse,while-loop-invariant-code-motion"
ACCELERATORS = ("jax_plugins", "libtpu")  # packages that bring another backend than CPU
_configured: tuple[int, bool] | None = None  # with what `configure` was called
_reminded = False


class SamenessWarning(UserWarning):
    """That on CPU a seed's last bits may depend on what runs beside it, for `configure` was not called in time."""


def set_flags() -> None:
    """What XLA is told in XLA_FLAGS before a backend starts, which is when it reads them; `configure` calls it.

    Rounding: a member's last bits on CPU must depend neither on the vmap width nor on the devices, as far as we can have it.
    By default jaxlib 0.10 sums in an order that depends on the size of the whole batch. A program for several devices goes
    through another order of XLA's passes, which then turn other divisions into products; not so without these two passes.
    (Measured: as fast, a fifth less to compile.) XLA's tiled emitter lets LLVM cut small arrays to vectors of 3, 5, 6 or 7
    numbers, for which exp and log come from libm instead of XLA's polynomials. And LLVM contracts a * b + c to one rounding
    only where both stand in one basic block, which unrolling a short loop decides.

    XLA's vectors stay at 256 bits: with 512 those of AVX-512 round rsqrt otherwise than shorter ones, and jaxlib 0.10 passes
    the vector form of arctan its arguments in other registers than it reads: wrong numbers, or a crash.

    Speed: XLA parts each small product among all cores, for which devices of a core each then wait in turn. (Measured on 2
    devices of 2 cores: 32 members of PPO take 0.85 of the time without; one un-vmapped seed, MLP or CNN, runs as fast.)

    An unknown flag would end the process, so they are given only to versions known to have them, and none that is set
    already; the passes are those of every backend, so they stay where CPU is not the only one.
    """
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_missing_flags()]).strip()


def _missing_flags() -> list[str]:
    """The flags that XLA_FLAGS says nothing about."""
    version = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
    known = [ORDERED_SUMS, SAME_LOOPS, WHOLE_PRODUCTS] if (0, 10) <= version < (0, 12) else []
    if not _has_accelerator():
        known.append(SAME_PASSES)
    given = os.environ.get("XLA_FLAGS", "")
    return [flag for flag in known if flag.partition("=")[0] not in given]


def _has_accelerator() -> bool:
    return any(importlib.util.find_spec(name) for name in ACCELERATORS)


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure(cpu_devices: int | None = None, cpu_only: bool = False, cache: bool = True) -> None:
    """Prepare JAX for training: XLA's flags, one CPU device per core, and a compilation cache that keeps everything.

    cpu_devices: another number than the cores, to resume a run from a machine with more. cpu_only: leave the accelerators to
    other processes. cache: keep compiled programs in JAX_COMPILATION_CACHE_DIR, else in the user's cache folder.

    The command line calls it. Raises InputError where JAX's backend has started already (making an array starts it, and
    importing gymnax), unless it was called before with the same arguments.
    """
    global _configured
    asked = (cpu_devices or cores(), cpu_only)
    if _configured != asked:
        try:
            for number in (asked[0] + 1, asked[0]):  # one of them is a change, which JAX refuses once a backend has started
                jax.config.update("jax_num_cpu_devices", number)
        except RuntimeError as error:
            raise InputError(
                "jaxrl.configure() must be called before JAX's backend starts (an array, or importing gymnax, starts it): "
                "call it first in a new process"
            ) from error
        set_flags()
        if cpu_only:
            jax.config.update("jax_platforms", "cpu")
        _configured = asked
    if not cache:
        return
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]  # defined at run time
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "jaxrl" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def remind() -> None:
    """Warn once, where sameness is promised on CPU, that the flags it needs were not set when the backend started."""
    global _reminded
    if _reminded or jax.default_backend() != "cpu" or not _missing_flags():
        return
    _reminded = True
    warnings.warn(
        "jaxrl.configure() was not called before JAX's backend started: on CPU a seed's last bits may depend on what runs "
        "beside it, and on the number of devices",
        SamenessWarning,
        stacklevel=3,
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def device() -> dict[str, Any]:
    """The devices JAX sees: platform, kind, count; and the machine's cores."""
    first = jax.local_devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": jax.local_device_count(),
        "cores": cores(),
        "machine": platform.machine(),
    }


def git_commit() -> str | None:
    """The commit of the working directory, with "+" behind it where files differ from it; None outside a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
