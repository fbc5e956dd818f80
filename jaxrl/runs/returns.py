"""Final returns over seeds, as summary.json has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrl.core import stats
from jaxrl.runs.metrics import plain


def stats_of(per_seed: np.ndarray) -> dict[str, Any]:
    """Mean, interquartile mean and 95 % interval of final returns [seeds]; None where a diverged seed leaves no number."""
    with np.errstate(invalid="ignore"):  # infinities of both signs
        low, high = stats.seed_interval(per_seed)
        numbers = {"mean": per_seed.mean(), "iqm": stats.iqm(per_seed), "ci_low": low, "ci_high": high, "per_seed": per_seed}
    return {name: plain(x) for name, x in numbers.items()}


def gap_of(per_seed: dict[Any, np.ndarray]) -> dict[str, Any]:
    """Final returns [seeds] by split and the generalisation gap, train - test, as summary.json has them; {} of no splits."""
    if not per_seed:
        return {}
    with np.errstate(invalid="ignore"):
        gap = per_seed["train"] - per_seed["test"]
    return {"splits": {split: stats_of(x) for split, x in per_seed.items()}, "generalization_gap": stats_of(gap)}
