"""Running a measurement, a module of benchmarks/measure: its parts one after the other, their rows shown and kept.

Such a module has PARTS: {name: function(smoke) -> rows}, and may have SMOKES: the parts that a smoke without a word runs, by
default all. A smoke asks only that everything runs: its numbers mean nothing, are printed and not kept, and nothing is
installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from benchmarks.harness import processes, result_files
from jaxrl.core.errors import unknown
from jaxrl.devices import platform

Row = dict[str, Any]
Part = Callable[[bool], Iterable[Row]]
ANY_WORK = ("q_learning", "CliffWalking")  # agent and environment of a smoke where any would do: they compile in a second


def run(name: str, words: Collection[str]) -> None:
    """The command `run NAME [--smoke] [WORD...]`: the parts whose name contains a word; without one all of them."""
    platform.configure()  # before a row is kept: that asks for the device, and starts the backend
    measure(name, [word for word in words if word != "--smoke"], smoke="--smoke" in words)


def measure(name: str, words: Collection[str] = (), *, smoke: bool = False) -> list[Row]:
    """Rows of the parts that `words` name, or whose name contains one; each shown and kept as soon as it is measured."""
    module = importlib.import_module(f"benchmarks.measure.{name}")
    parts: dict[str, Part] = module.PARTS
    words = words or (getattr(module, "SMOKES", ()) if smoke else ())
    wanted = set() if words else set(parts)
    for word in words:
        found = {word} & set(parts) or {part for part in parts if word in part}
        if not found:
            raise unknown(f"part of {name}", word, list(parts))
        wanted |= found
    rows = []
    for part in (part for part in parts if part in wanted):
        for row in parts[part](smoke):
            rows.append({**({} if "name" in row else {"part": part}), **row, "measured": result_files.stamp()})
            result_files.show(rows[-1])
            if not smoke:
                result_files.keep(name, rows[-1:], list(parts))
    return rows


def part_apart(function: Callable[..., Row], *args: Any) -> Part:
    """A part of one row, `function(*args, smoke)`, measured in a process of its own."""

    def measured(smoke: bool) -> Iterator[Row]:
        yield processes.apart(smoke, function, *args, smoke)

    return measured
