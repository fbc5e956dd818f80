"""Bytes: how many are free, and how a person reads and writes them."""

from __future__ import annotations

import jax
import psutil

from jaxrl.core.errors import InputError


def available_bytes() -> int:
    """Memory that training may take: the local accelerators' together, or what this machine has free."""
    found = _accelerators("bytes_in_use")
    return psutil.virtual_memory().available if found is None else found


def total_bytes() -> int:
    """The memory that there is: the local accelerators' together, or this machine's."""
    found = _accelerators()
    return psutil.virtual_memory().total if found is None else found


def _accelerators(used: str = "") -> int | None:
    """Bytes of the local accelerators together, without those that are used; None where none tells."""
    stats = [device.memory_stats() for device in jax.local_devices() if device.platform != "cpu"]
    known = stats and all(s and "bytes_limit" in s for s in stats)
    return sum(s["bytes_limit"] - s.get(used, 0) for s in stats) if known else None


def readable(count: float) -> str:
    """Bytes as a person writes them."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count = count / 1000
    return f"{count:.3g} GB"


def read_bytes(text: str) -> int:
    """ "4GB", "500MB", "1e9" as a number of bytes. Raises ValueError."""
    word = text.strip().upper().removesuffix("B")
    scale = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(word[-1:], 1)
    try:
        count = int(float(word[:-1] if scale > 1 else word) * scale)
    except (ValueError, OverflowError) as error:
        raise InputError(f"memory limit {text!r} must be a number of bytes, as 4GB or 500MB") from error
    if count < 1:
        raise InputError(f"memory limit {text!r} must be more than none")
    return count
