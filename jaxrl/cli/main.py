"""The command line: `jaxrl COMMAND ...`, one module of this package for each command.

Flags come from dataclasses through tyro. Bad input is one line on standard error and exit code 2.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from jaxrl.core.errors import InputError, printable, unknown

COMMANDS = {
    "list": "list agents and environments, or one in full: jaxrl list [agents|envs] [NAME]",
    "check": "try an environment or an agent of one's own: jaxrl check NAME|module:attribute|file.py:attribute",
    "train": "train an agent: jaxrl train AGENT --env ID [flags]",
    "sweep": "train configurations × seeds at once: jaxrl sweep AGENT --env ID --grid NAME=A,B [flags]",
    "tune": "search for better settings: jaxrl tune AGENT --env ID [flags]",
    "pretrain": "learn from data: jaxrl pretrain classify|clone|reconstruct --data DATA [flags]",
    "resume": "go on with a stopped run, sweep or tuning, or train longer: jaxrl resume DIR [--total-steps N]",
    "eval": "evaluate a run's policies greedily: jaxrl eval DIR",
    "record": "write episodes of a trained policy as a dataset: jaxrl record DIR --steps N --out DATA",
    "plot": "draw learning curves, a run's table of values, a sweep's effects: jaxrl plot DIR...",
    "report": "write one HTML file about runs and sweeps: jaxrl report DIR... --out report.html",
    "watch": "show how far a run or a sweep is, live, from any shell: jaxrl watch DIR",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 128 + signal for training that was stopped."""
    words = list(sys.argv[1:] if args is None else args)
    warnings.formatwarning = lambda message, *_, **__: f"jaxrl: warning: {message}\n"
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_usage())
            return 0
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        return importlib.import_module(f"jaxrl.cli.{words[0]}").main(words[1:])
    except InputError as error:
        print(f"jaxrl: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `jaxrl list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("jaxrl: interrupted", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = ["usage: jaxrl COMMAND ..., one of"]
    lines += [f"  {name:8}{what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "jaxrl COMMAND --help explains its flags; jaxrl train AGENT --help every hyper-parameter."])


if __name__ == "__main__":
    sys.exit(main())
