"""The benchmarks: `python -m benchmarks list | run NAME [--smoke] [WORD...] | compare OLD.json NEW.json | report`.

`run` measures, shows its rows and keeps them in benchmarks/results/NAME.json; a WORD picks the parts whose name contains it;
--smoke takes seconds, keeps nothing, and says only that it runs. `report` writes the figures of
docs/benchmarks.md and README anew, and their charts.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from benchmarks.harness import compare, runner
from benchmarks.readme import charts, tables
from jaxrl.core.errors import InputError, unknown

NAMES = {  # and minutes on 2 cores, or on a GPU
    "throughput": 15,
    "compile_time": 2,
    "memory": 3,
    "scaling": 4,
    "learning": 75,
    "threshold": 2,
    "phases": 2,
    "convolution": 2,
    "overhead": 7,
    "sweeps": 12,
    "report_time": 4,
    "machines": 12,
    "sameness": 60,
    "early": 40,
    "masks": 4,
    "pictures": 3,
    "gpu": 9,
}
COMMANDS = ["list", "run", "compare", "report"]
USAGE = "usage: python -m benchmarks list | run NAME [--smoke] [WORD...] | compare OLD.json NEW.json | report"


def main(words: list[str]) -> int:
    """Exit status: 0, or 2 for words that mean nothing and for what a measurement lacks."""
    try:
        _command(*words)
    except InputError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    return 0


def _command(command: str = "", *words: str) -> None:
    if command == "list" and not words:
        for name, minutes in NAMES.items():
            print(f"{name:12} about {minutes:>2} min  {_title(name)}")
    elif command == "run" and words:
        if words[0] not in NAMES:
            raise unknown("benchmark", words[0], list(NAMES))
        runner.run(words[0], words[1:])
    elif command == "compare" and len(words) == 2:
        compare.main(Path(words[0]), Path(words[1]))
    elif command == "report" and not words:
        tables.write()
        charts.draw()
    elif command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    else:
        raise InputError(USAGE)


def _title(name: str) -> str:
    """The first line of a measurement's docstring, without the command."""
    text = ast.get_docstring(ast.parse((Path(__file__).parent / "measure" / f"{name}.py").read_text())) or ""
    return text.splitlines()[0].partition(":")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
