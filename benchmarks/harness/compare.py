"""Which differences between two result files are outside noise: `python -m benchmarks compare OLD.json NEW.json`.

Rows of the same work are set side by side, and in them every list of repeats (rounds, runs, seeds). The difference
of means has Welch's 95 % interval; it is outside noise where that leaves out 0. A number measured once cannot be judged.
Learning curves are compared point by point.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from benchmarks.harness import result_files

NO_REPEATS = ("ci", "interval", "improvement_interval", "curve", "settings")  # lists that are none


class Difference(NamedTuple):
    """What a repeated measurement changed to. low, high: Welch's 95 % interval of new - old."""

    work: str
    figure: str
    old: float
    new: float
    low: float
    high: float

    @property
    def outside_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def line(self) -> str:
        """As printed."""
        mark = "CHANGED" if self.outside_noise else "same"
        share = f" {self.new / self.old:.2f}×" if self.old else ""
        change = f"{self.old:.4g} -> {self.new:.4g}{share} [{self.low:+.3g}, {self.high:+.3g}]"
        return f"{mark:8}{self.work}, {self.figure}: {change}"


def read(file: Path) -> dict[str, Mapping[str, Any]]:
    """Rows of a result file by the work that they measured. Raises ValueError where it is none."""
    return {result_files.identity(row): row for row in result_files.read(file)}


def differences(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """Of every figure with repeats that both have, in the old file's order."""
    for work in old:
        if work not in new:
            continue
        before, after = dict(_repeats(old[work])), dict(_repeats(new[work]))
        for figure in before:
            if figure in after:
                yield difference(work, figure, before[figure], after[figure])


def difference(work: str, figure: str, old: list[float], new: list[float]) -> Difference:
    """Two groups of repeats; without any spread the interval is the difference itself."""
    means = float(np.mean(old)), float(np.mean(new))
    if max(np.ptp(old), np.ptp(new)) <= 1e-6 * max(map(abs, old + new)):  # the same but for rounding
        low = high = means[1] - means[0]
    else:
        low, high = scipy.stats.ttest_ind(new, old, equal_var=False).confidence_interval()
    return Difference(work, figure, *means, float(low), float(high))


def overlap(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[int, int]:
    """At how many points of two learning curves the intervals over seeds overlap, of how many that both have."""
    points = list(zip(old["low"], old["high"], new["low"], new["high"], strict=False))
    known = [point for point in points if None not in point]
    return sum(low <= other_high and other_low <= high for low, high, other_low, other_high in known), len(known)


def _repeats(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[float]]]:
    """(name, numbers) of every list of two numbers or more, however deep."""
    for name, value in row.items():
        if name in NO_REPEATS:
            continue
        if isinstance(value, Mapping):
            yield from _repeats(value, f"{prefix}{name} ")
        elif isinstance(value, list) and len(value) > 1:
            if all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in value):
                yield prefix + name, value


def main(old: Path, new: Path) -> None:
    """Print every difference, those outside noise first, and what only one file has."""
    before, after = read(old), read(new)
    found = sorted(differences(before, after), key=lambda d: not d.outside_noise)
    print("\n".join(d.line() for d in found) or "nothing with repeats is in both")
    for work in before:
        if "curve" in before[work] and "curve" in after.get(work, {}):
            same, points = overlap(before[work]["curve"], after[work]["curve"])
            print(f"{work}: the curves' intervals overlap at {same} of {points} points")
    for file, rows, others in ((old, before, after), (new, after, before)):
        for work in rows.keys() - others.keys():
            print(f"only in {file}: {work}")
