"""Numbers as people read them: as many digits as their size asks for, and "-" where there is none."""

from __future__ import annotations

import math

NONE = "-"


def readable(x: float | None, *beside: float | None) -> str:
    """A number with three significant digits or more: 0.74 is "0.740", 21.43 is "21.4", 475.25 is "475.2", 1342.7 is "1343".

    x: None or NaN is "-". beside: numbers that it is read together with, as the ends of its interval: the largest of all
    decides how many decimals each gets, when all are given beside each other.
    """
    if x is None or math.isnan(x):
        return NONE
    sizes = [abs(value) for value in (x, *beside) if value is not None and math.isfinite(value)]
    largest = max(sizes, default=0.0)
    if not math.isfinite(x) or largest == 0:
        return f"{x:g}"
    if not 1e-4 <= largest < 1e7:
        return f"{x:.3g}"
    decimals = 2 - math.floor(math.log10(largest))
    return f"{x:.{0 if largest >= 1000 else max(1, decimals)}f}"


def interval(low: float | None, high: float | None, *beside: float | None) -> str:
    """An interval as "[0.702, 0.779]"; "-" where an end is not known. beside: as in `readable`."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return NONE
    return f"[{readable(low, high, *beside)}, {readable(high, low, *beside)}]"
