"""The benchmarks: `python -m benchmarks list | run NAME [--smoke] [WORD...] | compare OLD.json NEW.json | report`.

`run` measures in a process of its own, shows its rows and keeps them in benchmarks/results/NAME.json; a WORD picks the parts
whose name contains it; --smoke takes seconds, keeps nothing, and says only that it runs. `report` writes README's figures
and pictures anew.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from benchmarks import compare, report
from jaxrl.core.errors import InputError, unknown

NAMES = {  # and minutes on 2 cores, or on a GPU
    "throughput": 15,
    "compile": 2,
    "memory": 3,
    "scaling": 4,
    "learning": 75,
    "threshold": 2,
    "phases": 2,
    "overhead": 7,
    "sweeps": 12,
    "reporting": 4,
    "machines": 12,
    "sameness": 60,
    "pictures": 3,
    "gpu": 9,
}
COMMANDS = ["list", "run", "compare", "report"]
USAGE = "usage: python -m benchmarks list | run NAME [--smoke] [WORD...] | compare OLD.json NEW.json | report"


def main(words: list[str]) -> int:
    """Exit status: 0, what a benchmark gave, or 2 for words that mean nothing."""
    try:
        return _command(*words)
    except InputError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2


def _command(command: str = "", *words: str) -> int:
    if command == "list" and not words:
        for name, minutes in NAMES.items():
            text = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) or ""
            print(f"{name:10} about {minutes:>2} min  {text.splitlines()[0].partition(':')[0]}")
        return 0
    if command == "run" and words:
        if words[0] not in NAMES:
            raise unknown("benchmark", words[0], list(NAMES))
        return subprocess.run([sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]).returncode
    if command == "compare" and len(words) == 2:
        compare.main(Path(words[0]), Path(words[1]))
        return 0
    if command == "report" and not words:
        report.main()
        return 0
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    raise InputError(USAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
