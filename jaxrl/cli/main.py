"""The command line: `jaxrl list | train | sweep | tune | resume | eval | plot | report | watch`.

Flags come from dataclasses through tyro. Bad input is one line on standard error and exit code 2.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence

from jaxrl.cli import commands, flags, views
from jaxrl.cli.options import ListOptions
from jaxrl.core.errors import InputError, unknown
from jaxrl.devices import platform
from jaxrl.experiment import registry


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 128 + signal for a run that was stopped."""
    words = list(sys.argv[1:] if args is None else args)
    warnings.formatwarning = lambda message, *_, **__: f"jaxrl: warning: {message}\n"
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_usage())
            return 0
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        return COMMANDS[words[0]](words[1:])
    except InputError as error:
        print(f"jaxrl: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `jaxrl list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("jaxrl: interrupted", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = ["usage: jaxrl COMMAND ..., one of"]
    lines += [f"  {name:8}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "jaxrl COMMAND --help explains its flags; jaxrl train AGENT --help every hyper-parameter."])


def list_names(args: Sequence[str]) -> int:
    """list agents and environments: jaxrl list [agents|envs]"""
    what = flags.parse(ListOptions, args, "jaxrl list").what
    if what in ("agents", "all"):
        for name in registry.agent_names():
            print(f"{name:19}{(registry.find_agent(name)[1].__doc__ or '').splitlines()[0]}")
    if what == "all":
        print()
    if what in ("envs", "all"):
        platform.configure(1)
        for name in registry.env_names():
            print(f"{name:26}{_spaces(name)}")
    return 0


def _spaces(env: str) -> str:
    try:
        spec = registry.find_env(env).spec
    except InputError as missing:  # an extra that is not installed
        return str(missing)
    return f"observations {str(spec.observation_space):18}actions {spec.action_space}"


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_names,
    "train": commands.train,
    "sweep": commands.sweep,
    "tune": commands.tune,
    "resume": commands.resume,
    "eval": views.evaluate,
    "plot": views.plot,
    "report": views.report,
    "watch": views.watch,
}

if __name__ == "__main__":
    sys.exit(main())
